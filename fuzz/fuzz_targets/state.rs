//! A container's directory with any bytes in it: it is read as what was written, or as nothing, and can be removed.
//!
//! The first two bytes say where the journal ends and the state begins.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tare::{state, undo};

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("tare-fuzz-state-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    root
});

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_at_checked(2) else { return };
    let (journal, state) = rest.split_at(usize::from(u16::from_le_bytes([head[0], head[1]])).min(rest.len()));
    let dir = ROOT.join("box");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("journal.json"), journal).unwrap();
    std::fs::write(dir.join("state.json"), state).unwrap();
    let dir = state::open(&ROOT, "box").unwrap();
    let journal = dir.journal();
    let again: state::Journal = serde_json::from_slice(&serde_json::to_vec(&journal).unwrap()).unwrap();
    assert_eq!(again.undo, journal.undo);
    let _ = (undo::groups(&journal.undo), undo::unit(&journal.undo));
    if let Some(record) = dir.record() {
        let text = serde_json::to_vec(&record).unwrap();
        let again: state::Record = serde_json::from_slice(&text).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), text);
        let _ = dir.is_of_another_boot(&record.boot_id);
    }
    dir.remove(true).unwrap();
    assert!(!ROOT.join("box").exists());
});
