//! tare: a low-level OCI container runtime.
