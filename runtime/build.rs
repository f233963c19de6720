//! How the program is linked, and which commit a build is of. The latter is for `--version`: `$TARE_COMMIT` where a packager
//! gives it, else git's answer where this folder is the root of its own checkout, else nothing (and the program says
//! `unknown`).

use std::path::Path;
use std::process::Command;

fn main() {
    link();
    commit();
}

/// The program begins before libc (`src/sys/start.rs`), and what a container's start executes lies together.
fn link() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,tare_start");
    }
    println!("cargo:rerun-if-env-changed=TARE_LINK_MAP");
    if let Ok(map) = std::env::var("TARE_LINK_MAP") {
        // For `hack/order`, which must know what each piece of code names.
        println!("cargo:rustc-link-arg-bins=-Wl,-Map={map}");
        println!("cargo:rustc-link-arg-bins=-Wl,--emit-relocs");
    }
    // For a linker that does not know how to insert into its own script, as those of binutils and LLVM do.
    println!("cargo:rerun-if-env-changed=TARE_LINK_PLAIN");
    let order = concat!(env!("CARGO_MANIFEST_DIR"), "/order.ld");
    println!("cargo:rerun-if-changed={order}");
    let release = std::env::var("PROFILE").as_deref() == Ok("release");
    if release && std::env::var_os("TARE_LINK_PLAIN").is_none() {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{order}");
        // Static programs of old had their unwind tables registered at start, which touches them. Whoever unwinds finds them
        // by the program's headers; the start looks for these names and does without.
        for name in ["__register_frame_info", "__deregister_frame_info"] {
            println!("cargo:rustc-link-arg-bins=-Wl,--defsym={name}=0");
        }
    }
}

fn commit() {
    println!("cargo:rerun-if-env-changed=TARE_COMMIT");
    if std::env::var_os("TARE_COMMIT").is_some() {
        // rustc passes the caller's own variable on to the program.
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // A tarball may have been unpacked inside of another project's checkout, whose commit says nothing about it.
    let own = git(&root, &["rev-parse", "--show-toplevel"]).and_then(|top| Path::new(&top).canonicalize().ok());
    if own.is_none() || own != root.canonicalize().ok() {
        println!("cargo:rerun-if-changed=build.rs");
        return;
    }
    // The log of HEAD changes with every commit and checkout; HEAD itself is always there.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&root, &["rev-parse", "--git-path", file]).filter(|path| root.join(path).exists()) {
            println!("cargo:rerun-if-changed={}", root.join(path).display());
        }
    }
    if let Some(commit) = git(&root, &["rev-parse", "HEAD"]) {
        println!("cargo:rustc-env=TARE_COMMIT={commit}");
    }
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let answer = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
    if !answer.status.success() {
        return None;
    }
    Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
