"use strict";
const $ = (s) => [...document.querySelectorAll(s)];
const on = (id) => document.getElementById(id).checked;
function filter() {
  const words = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const levels = new Set($(".level").filter((b) => b.checked).map((b) => b.value));
  let shown = 0;
  for (const body of $("tbody")) {
    let any = false;
    for (const row of body.querySelectorAll("tr.clause")) {
      const d = row.dataset;
      const text = row.textContent.toLowerCase();
      const keep = levels.has(d.level) && (!on("lost") || d.lost === "1") && (!on("differ") || d.differ === "1")
        && (on("none") || d.none === "0") && words.every((w) => text.includes(w));
      row.hidden = !keep;
      any ||= keep;
      shown += keep ? 1 : 0;
    }
    body.hidden = !any;
  }
  document.getElementById("shown").textContent = `${shown} clauses`;
}
for (const input of $("nav input")) input.addEventListener("input", filter);
filter();
