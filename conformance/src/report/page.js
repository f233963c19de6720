"use strict";
const $ = (s) => [...document.querySelectorAll(s)];
const value = (id) => document.getElementById(id).value;
function filter() {
  const words = value("find").toLowerCase().split(/\s+/).filter(Boolean);
  const levels = new Set($(".level").filter((b) => b.checked).map((b) => b.value));
  const [result, chapter] = [value("result"), value("chapter")];
  let shown = 0;
  for (const body of $("main tbody")) {
    let any = false;
    for (const row of body.querySelectorAll("tr.clause")) {
      const results = row.dataset.result.split(" ");
      const keep = levels.has(row.dataset.level)
        && (result === "all" ? !results.includes("none") : results.includes(result))
        && (!chapter || row.dataset.chapter.split(" ").includes(chapter))
        && words.every((w) => row.textContent.toLowerCase().includes(w));
      row.hidden = !keep;
      any ||= keep;
      shown += keep ? 1 : 0;
    }
    body.hidden = !any;
  }
  document.getElementById("shown").textContent = `${shown} clauses`;
}
for (const input of $("nav input, nav select")) input.addEventListener("input", filter);
filter();
