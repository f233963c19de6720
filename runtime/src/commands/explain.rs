//! `explain`: the plan of a bundle, with nothing done.

use std::path::Path;

use super::{Context, Outcome};
use crate::cli::Explain;
use crate::container::{self, Bundle};
use crate::error::Problems;
use crate::explain as text;

/// `explain`.
pub(super) fn explain(cx: &Context, ask: &Explain) -> Outcome {
    let bundle = Bundle::load(ask.create.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let (spec, unknown) = bundle.spec()?;
    if ask.create.strict && !unknown.is_empty() {
        let problems = Problems { errors: unknown, warnings: Vec::new() };
        return Err(container::Error::from(problems).into());
    }
    for problem in &unknown {
        cx.log.warn(&problem.to_string());
    }
    let mut request = super::create::request(cx, &ask.create, &bundle);
    request.id = ask.id.clone().unwrap_or_else(|| "ID".to_owned());
    let compiled = container::compile(&spec, &request)?;
    for warning in &compiled.warnings {
        cx.log.warn(&warning.to_string());
    }
    if ask.json {
        let steps = serde_json::to_string_pretty(&text::steps(&compiled.plan));
        return cx.print(&(steps.map_err(|e| container::Error::new(e.to_string()))? + "\n"));
    }
    cx.print(&text::plan(&compiled.plan))
}
