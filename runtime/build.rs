//! How the program is linked, how libc is started in it, and which commit a build is of. The latter is for `--version`:
//! `$TARE_COMMIT` where a packager gives it, else git's answer where this folder is the root of its own checkout, else nothing
//! (and the program says `unknown`).

use std::path::Path;
use std::process::Command;

/// Releases of glibc whose start was read for `src/sys/libc_start.rs`, and with which all tests were run; and what of it they
/// have beyond the first. Another is started as it wants to be.
const STARTS: &[(&str, &[&str])] = &[("2.36", &[]), ("2.41", &["memset-threshold"])];

fn main() {
    link();
    own_libc_start();
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
    println!("cargo:rerun-if-changed=order.ld");
    let release = std::env::var("PROFILE").as_deref() == Ok("release");
    if release && std::env::var_os("TARE_LINK_PLAIN").is_none() {
        // A copy: another checkout may have the same target directory, and what it has built must not name this one's.
        let order = Path::new(&std::env::var_os("OUT_DIR").unwrap_or_default()).join("order.ld");
        std::fs::copy("order.ld", &order).unwrap_or_else(|e| panic!("runtime/order.ld to {}: {e}", order.display()));
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", order.display());
        // Static programs of old had their unwind tables registered at start, which touches them. Whoever unwinds finds them
        // by the program's headers; the start looks for these names and does without.
        for name in ["__register_frame_info", "__deregister_frame_info"] {
            println!("cargo:rustc-link-arg-bins=-Wl,--defsym={name}=0");
        }
    }
}

/// Whether the program starts libc itself: where libc is linked statically and not relocated, and known. `$TARE_LIBC_START`
/// set to `libc` leaves it to libc in any case.
fn own_libc_start() {
    println!("cargo:rustc-check-cfg=cfg(own_libc_start)");
    println!("cargo:rustc-check-cfg=cfg(libc_has, values(\"memset-threshold\"))");
    println!("cargo:rerun-if-env-changed=TARE_LIBC_START");
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value.split(',').any(|v| v == wanted));
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let suits = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && flags.split('\x1f').any(|flag| flag.trim_start_matches("-C") == "relocation-model=static")
        && !is("TARE_LIBC_START", "libc");
    let release = if suits { libc_release() } else { None };
    if let Some((_, has)) = STARTS.iter().find(|(known, _)| Some(*known) == release.as_deref()) {
        println!("cargo:rustc-cfg=own_libc_start");
        for what in *has {
            println!("cargo:rustc-cfg=libc_has=\"{what}\"");
        }
    }
}

/// The release of the glibc that will be linked, as its archive says: `GNU C Library (…) stable release version 2.36.`
fn libc_release() -> Option<String> {
    let linker = std::env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let answer = Command::new(linker).arg("-print-file-name=libc.a").output().ok()?;
    let path = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    println!("cargo:rerun-if-changed={path}");
    let (archive, words) = (std::fs::read(path).ok()?, b"stable release version ");
    let start = archive.windows(words.len()).position(|window| window == words)? + words.len();
    let text = String::from_utf8_lossy(archive.get(start..start + 8)?).into_owned();
    let digits = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    Some(digits.trim_end_matches('.').to_owned())
}

fn commit() {
    println!("cargo:rerun-if-env-changed=TARE_COMMIT");
    if std::env::var_os("TARE_COMMIT").is_some() {
        // rustc passes the caller's own variable on to the program.
        return;
    }
    let root = Path::new("..");
    // A tarball may have been unpacked inside of another project's checkout, whose commit says nothing about it.
    let own = git(root, &["rev-parse", "--show-toplevel"]).and_then(|top| Path::new(&top).canonicalize().ok());
    if own.is_none() || own != root.canonicalize().ok() {
        println!("cargo:rerun-if-changed=build.rs");
        return;
    }
    // The log of HEAD changes with every commit and checkout; HEAD itself is always there.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(root, &["rev-parse", "--git-path", file]).filter(|path| root.join(path).exists()) {
            println!("cargo:rerun-if-changed={}", root.join(path).display());
        }
    }
    if let Some(commit) = git(root, &["rev-parse", "HEAD"]) {
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
