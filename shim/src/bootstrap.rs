//! What an engine says on standard input of `start`, and in which form it wants the answer.
//!
//! | containerd | standard input | answer |
//! | --- | --- | --- |
//! | 1.6 – 2.2 | an `Any` of options, or nothing | the address as text, which means protocol version 2 |
//! | 2.3 | `BootstrapParams` | `BootstrapResult` |
//!
//! Both messages begin with two strings, so an `Any` parses as `BootstrapParams`. It is the latter exactly if it repeats the id
//! and the namespace of the command line. 1.7 refuses version 3 and cannot be told from 2.0; the text is right for both.

use crate::api::{Any, BootstrapParams, BootstrapResult};
use crate::wire::{Malformed, Message};

/// What was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bootstrap {
    /// Whether the answer is a message.
    pub modern: bool,
    /// Runtime options.
    pub options: Option<Any>,
    /// The directory for the socket.
    pub socket_dir: String,
    /// Where events go.
    pub ttrpc_address: String,
    /// The engine's own socket.
    pub grpc_address: String,
    /// Whether detailed logging is wanted.
    pub debug: bool,
}

/// Reads standard input.
///
/// # Errors
/// [`Malformed`] when it is neither.
pub fn read(input: &[u8], id: &str, namespace: &str) -> Result<Bootstrap, Malformed> {
    if input.is_empty() {
        return Ok(Bootstrap::default());
    }
    if let Ok(params) = BootstrapParams::decode(input)
        && params.instance_id == id
        && params.namespace == namespace
    {
        let known = ["containerd.runc.v1.Options", "runtimeoptions.v1.Options"];
        let values = params.extensions.into_iter().filter_map(|e| e.value);
        return Ok(Bootstrap {
            modern: true,
            options: values.into_iter().find(|any| known.contains(&any.type_name())),
            socket_dir: params.socket_dir,
            ttrpc_address: params.ttrpc_address,
            grpc_address: params.grpc_address,
            debug: params.log_level <= -4,
        });
    }
    Ok(Bootstrap { options: Some(Any::decode(input)?), ..Bootstrap::default() })
}

/// The answer for an address (`unix:///…`).
#[must_use]
pub fn answer(modern: bool, address: &str) -> Vec<u8> {
    if !modern {
        return address.as_bytes().to_vec();
    }
    BootstrapResult { version: 3, address: address.to_owned(), protocol: "ttrpc".to_owned() }.encode()
}

#[cfg(test)]
mod tests {
    use super::{answer, read};
    use crate::api::{Any, BootstrapParams, BootstrapResult, Extension, RuncOptions};
    use crate::wire::{Bytes, Message};

    fn options() -> Any {
        Any::of("containerd.runc.v1.Options", &RuncOptions { binary_name: "crun".into(), ..RuncOptions::default() })
    }

    #[test]
    fn an_any_is_not_taken_for_params() {
        let read = read(&options().encode(), "id", "ns").unwrap();
        assert!(!read.modern);
        assert_eq!(read.options, Some(options()));
        // Not even one whose bytes are valid strings.
        let text = Any { type_url: "x".into(), value: Bytes(b"text".to_vec()) };
        assert!(!super::read(&text.encode(), "id", "ns").unwrap().modern);
    }

    #[test]
    fn params_are_known_by_id_and_namespace() {
        let params = BootstrapParams {
            instance_id: "id".into(),
            namespace: "ns".into(),
            log_level: -4,
            socket_dir: "/run/s".into(),
            ttrpc_address: "/t".into(),
            extensions: vec![Extension { value: Some(options()) }],
            ..BootstrapParams::default()
        };
        let read = read(&params.encode(), "id", "ns").unwrap();
        assert!(read.modern && read.debug);
        assert_eq!(
            (read.options, read.socket_dir.as_str(), read.ttrpc_address.as_str()),
            (Some(options()), "/run/s", "/t")
        );
        assert!(!super::read(&params.encode(), "other", "ns").unwrap().modern);
    }

    #[test]
    fn answers_fit_the_generation() {
        assert_eq!(answer(false, "unix:///a"), b"unix:///a");
        let modern = BootstrapResult::decode(&answer(true, "unix:///a")).unwrap();
        assert_eq!((modern.version, modern.address.as_str(), modern.protocol.as_str()), (3, "unix:///a", "ttrpc"));
        assert_eq!(super::read(b"", "i", "n").unwrap(), super::Bootstrap::default());
        assert!(super::read(&[0xff, 0xff], "i", "n").is_err());
    }
}
