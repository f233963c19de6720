//! Puts every case and clause file into the binary, so that `conformance` is one file that runs anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn files(dir: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "json") {
            out.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut text = String::new();
    for (name, dir) in [("CASES", "cases"), ("CLAUSES", "clauses")] {
        let mut list = Vec::new();
        files(&root.join(dir), &mut list)?;
        list.sort();
        writeln!(text, "pub(crate) static {name}: &[(&str, &str)] = &[")?;
        for path in list {
            let short = path.strip_prefix(root.join(dir))?;
            writeln!(text, "    ({:?}, include_str!({:?})),", short.display().to_string(), path.display().to_string())?;
        }
        writeln!(text, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("data.rs"), text)?;
    Ok(())
}
