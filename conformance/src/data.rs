//! The case and clause files, as the build put them in.

include!(concat!(env!("OUT_DIR"), "/data.rs"));
