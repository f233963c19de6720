//! `update`.

use std::io::Read as _;

use serde_json::{Map, Value, json};

use super::{Context, Failure, Outcome};
use crate::cli::{Source, Update};
use crate::container::{self, Error};
use crate::parse::SIZE_LIMIT;
use crate::sys::io_text;

/// `update`: from a file, from standard input, or from flags.
#[inline(never)]
pub(super) fn update(cx: &Context, ask: &Update) -> Outcome {
    if ask.l3_cache_schema.is_some() || ask.mem_bw_schema.is_some() {
        let text = "--l3-cache-schema, --mem-bw-schema: Intel RDT is not supported";
        return Err(Error::new(text).into());
    }
    if ask.kernel_memory {
        cx.log.warn("--kernel-memory is ignored: no kernel has that limit any more");
    }
    let resources = match &ask.resources {
        Some(source) => read(source)?,
        None => from_flags(ask).to_string().into_bytes(),
    };
    for warning in container::update::update(&cx.root().0, &ask.id, &resources)? {
        cx.log.warn(&warning.to_string());
    }
    Ok(0)
}

fn read(source: &Source) -> Result<Vec<u8>, Failure> {
    let (name, done) = match source {
        Source::Stdin => {
            // One byte more than is allowed, so that too much is seen to be too much.
            let (limit, mut text) = (u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX) + 1, Vec::new());
            ("standard input".to_owned(), std::io::stdin().take(limit).read_to_end(&mut text).map(|_| text))
        }
        Source::File(path) => (path.display().to_string(), container::read_bounded(path)),
    };
    Ok(done.map_err(|e| Error::new(format!("--resources {name}: {}", io_text(&e))))?)
}

/// The flags as the resources object that they stand for.
fn from_flags(ask: &Update) -> Value {
    let cpu = [
        ("period", json!(ask.cpu_period)),
        ("quota", json!(ask.cpu_quota)),
        ("burst", json!(ask.cpu_burst)),
        ("shares", json!(ask.cpu_share)),
        ("realtimePeriod", json!(ask.cpu_rt_period)),
        ("realtimeRuntime", json!(ask.cpu_rt_runtime)),
        ("idle", json!(ask.cpu_idle)),
        ("cpus", json!(ask.cpuset_cpus)),
        ("mems", json!(ask.cpuset_mems)),
    ];
    let memory = [
        ("limit", json!(ask.memory)),
        ("reservation", json!(ask.memory_reservation)),
        ("swap", json!(ask.memory_swap)),
    ];
    let chapters = [
        ("cpu", named(cpu)),
        ("memory", named(memory)),
        ("pids", named([("limit", json!(ask.pids_limit))])),
        ("blockIO", named([("weight", json!(ask.blkio_weight))])),
    ];
    match named(chapters) {
        Value::Null => json!({}),
        some => some,
    }
}

/// An object of what has a value; null where nothing has.
fn named<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let named = fields.into_iter().filter(|(_, value)| !value.is_null());
    let map: Map<String, Value> = named.map(|(key, value)| (key.to_owned(), value)).collect();
    if map.is_empty() { Value::Null } else { Value::Object(map) }
}
