//! `state` and `list`.

use std::collections::BTreeMap;

use super::{Context, Outcome};
use crate::cli::{Format, List};
use crate::container::{self, Status};
use crate::state::{self, Record};
use crate::sys::{errno_text, fs};
use crate::table::{self, ContainerState};

/// `state`.
pub(super) fn state(cx: &Context, id: &str) -> Outcome {
    let dir = state::open(&cx.root().0, id).map_err(container::Error::from)?;
    let (record, status) = container::status(&dir);
    let record = record.unwrap_or_else(|| Record { id: id.to_owned(), ..Record::default() });
    let status = status.to_string();
    let text = table::state_json(&row(&record, &status, &record.owner_name()));
    cx.print(&text.map_err(|e| container::Error::new(e.to_string()))?)
}

/// `list`.
pub(super) fn list(cx: &Context, ask: &List) -> Outcome {
    let (root, named) = cx.root();
    let ids = match state::ids(&root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => Vec::new(),
        Err(e) => {
            let reason = e.raw_os_error().map_or_else(|| e.to_string(), errno_text);
            return Err(container::Error::new(format!("open {}: {reason}", root.display())).into());
        }
        Ok(ids) => ids,
    };
    let mut found: Vec<(Record, String, String)> = Vec::new();
    for id in ids {
        // One that goes meanwhile is not listed.
        let Ok(dir) = state::open(&root, &id) else { continue };
        let (record, status) = container::status(&dir);
        let record = record.unwrap_or_else(|| Record { id, ..Record::default() });
        let owner = record.owner_name();
        found.push((record, status.to_string(), owner));
    }
    let mut rows: Vec<_> = found.iter().map(|(record, status, owner)| row(record, status, owner)).collect();
    let text = match ask {
        List { quiet: true, .. } => rows.iter().map(|r| format!("{}\n", r.id)).collect(),
        List { format: Format::Json, .. } => {
            table::list_json(&mut rows).map_err(|e| container::Error::new(e.to_string()))?
        }
        List { .. } => table::list_table(&mut rows),
    };
    cx.print(&text)
}

fn row<'a>(record: &'a Record, status: &'a str, owner: &'a str) -> ContainerState<'a> {
    let annotations: BTreeMap<_, _> = record.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    ContainerState {
        oci_version: if record.oci_version.is_empty() { "1.3.0" } else { &record.oci_version },
        id: &record.id,
        pid: if status == Status::Stopped.to_string() { 0 } else { record.pid },
        status,
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        owner,
        annotations,
    }
}

impl Record {
    /// The name of the user that created the container, from the host's own /etc/passwd; `#uid` where it has none.
    fn owner_name(&self) -> String {
        let passwd = state::read_in(fs::cwd(), c"/etc/passwd", u64::MAX).unwrap_or_default();
        let passwd = String::from_utf8_lossy(&passwd);
        let uid = self.owner.to_string();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        });
        name.unwrap_or_else(|| format!("#{uid}"))
    }
}
