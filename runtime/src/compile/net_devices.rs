//! `linux.netDevices`: devices of the host's that the container gets.

use super::Chapter;
use crate::field::Field;
use crate::op::{Kind, ParentOp};
use crate::plan::{Mark, Step};

/// Moves the devices once nothing but hooks is likely to fail, and before the hooks and parameters that may be about them.
pub(super) fn all(ch: &mut Chapter<'_>) {
    // Otherwise they were refused: there is nowhere to move them to.
    if !ch.namespaces.has(Kind::Network) {
        return;
    }
    let mut steps = Vec::new();
    for (name, device) in &ch.linux.net_devices {
        let inside = device.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(name);
        let op = ParentOp::MoveNetDevice { name: (**name).to_owned(), inside: inside.to_owned() };
        steps.push(Step::parent(op, Field::new("linux.netDevices").key(name)));
    }
    if let Some(first) = steps.first_mut() {
        first.waits = Some(Mark::MountsDone);
    }
    if let Some(last) = steps.last_mut() {
        last.reaches = Some(Mark::NetDevicesMoved);
        ch.lanes.parent.extend(steps);
        ch.lanes.hold_init(Mark::NetDevicesMoved);
    }
}
