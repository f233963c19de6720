//! Rules R1, R2 and R6: no name that an image controls leads to the host.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::canary::Canary;
use crate::support::{Case, case, ready};

/// Replaces a directory of the image by a link.
fn swap(case: &Case, name: &str, target: &Path) {
    let path = case.rootfs().join(name);
    let _ = std::fs::remove_dir_all(&path);
    symlink(target, path).unwrap();
}

/// The same place, said relative to the root filesystem: from `/tmp/ID/rootfs`.
fn relative(canary: &Canary) -> PathBuf {
    Path::new("../..").join(canary.dir.file_name().unwrap())
}

fn bare_dev(mut case: Case) -> Case {
    for mount in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        case = case.without_mount(mount);
    }
    case
}

#[test]
fn a_root_that_is_a_link_to_a_directory_of_the_host() {
    if !ready() {
        return;
    }
    // CVE-2019-18837.
    let (case, canary) = (case().script("true"), Canary::new());
    std::fs::rename(case.rootfs(), case.dir.join("real")).unwrap();
    symlink(&canary.dir, case.rootfs()).unwrap();
    case.refused(&["root.path"]);
    canary.is_untouched();
}

#[test]
fn proc_or_sys_as_a_link_in_the_image_stays_inside() {
    if !ready() {
        return;
    }
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-54867: what was to be mounted is mounted where the link leads inside the root.
    for name in ["proc", "sys", "dev"] {
        let canary = Canary::new();
        for target in [canary.dir.clone(), relative(&canary)] {
            let case = case().mount("/proc2", "proc", "proc", &[]);
            let case = case.script(&format!("grep -c \" $(readlink -f /{name}) \" /proc2/mounts"));
            swap(&case, name, &target);
            case.yields("1");
            canary.is_untouched();
            assert_eq!(case.left(), Vec::<String>::new());
        }
    }
}

#[test]
fn destinations_through_links_stay_inside() {
    if !ready() {
        return;
    }
    for link in ["absolute", "relative", "of a link"] {
        let canary = Canary::new();
        let case = case()
            .mount("/out/new/dir", "tmpfs", "tmpfs", &[])
            .mount("/out/sub", "tmpfs", "tmpfs", &[])
            .mount("/out/file", "bind", "config.json", &["bind"])
            .script("grep -c ' /.*tare-canary' /proc/mounts");
        let target = if link == "relative" { relative(&canary) } else { canary.dir.clone() };
        if link == "of a link" {
            symlink(&target, case.rootfs().join("out2")).unwrap();
            symlink("/tmp/../out2/.", case.rootfs().join("out")).unwrap();
        } else {
            swap(&case, "out", &target);
        }
        case.yields("3");
        canary.is_untouched();
    }
}

#[test]
fn what_is_mounted_for_engines_over_a_link_stays_inside() {
    if !ready() {
        return;
    }
    // The file itself is the link: what Docker and Kubernetes mount over, by the names that they use.
    for name in ["etc/resolv.conf", "etc/hosts", "tmp/secret"] {
        let canary = Canary::new();
        let case = case().mount(&format!("/{name}"), "bind", "config.json", &["bind", "ro"]);
        let case = case.script(&format!("grep -c ' {}/file ' /proc/mounts; head -c 1 /{name}", canary.dir.display()));
        swap(&case, name, &canary.dir.join("file"));
        case.yields("1\n{");
        canary.is_untouched();
    }
}

#[test]
fn devices_and_links_in_a_dev_that_is_a_link_stay_inside() {
    if !ready() {
        return;
    }
    // CVE-2026-47766, CVE-2026-41579: no tmpfs over /dev, and /dev leads out.
    let canary = Canary::new();
    for target in [canary.dir.clone(), relative(&canary)] {
        let case = bare_dev(case().script("ls /dev/ | tr '\\n' ' '"));
        swap(&case, "dev", &target);
        let said = case.says();
        canary.is_untouched();
        assert!(said.contains("null") && said.contains("urandom") && said.contains("stdin"), "{said}");
    }
}

#[test]
fn a_device_of_the_images_own_is_no_device_of_ours() {
    if !ready() {
        return;
    }
    // Where a device is to be made the image has a file, another device, a link: nothing of it is taken for ours.
    let canary = Canary::new();
    let disk = nix::sys::stat::makedev(1, 1);
    for kind in ["other", "file", "link"] {
        let case = bare_dev(case().script("stat -c %t:%T /dev/null"));
        let at = case.rootfs().join("dev/null");
        match kind {
            "other" => nix::sys::stat::mknod(
                &at,
                nix::sys::stat::SFlag::S_IFCHR,
                nix::sys::stat::Mode::from_bits_truncate(0o666),
                disk,
            )
            .unwrap(),
            "file" => std::fs::write(&at, "x").unwrap(),
            _ => symlink(canary.dir.join("null"), &at).unwrap(),
        }
        case.refused(&["/dev/null"]);
        canary.is_untouched();
    }
}

#[test]
fn a_magic_link_as_destination_is_not_followed() {
    if !ready() {
        return;
    }
    for target in ["/proc/self/root", "/proc/1/cwd", "/proc/self/fd/7", "/proc/self/exe"] {
        let (case, canary) = (case().mount("/evil/x", "tmpfs", "tmpfs", &[]), Canary::new());
        swap(&case, "evil", Path::new(target));
        case.refused(&["mounts["]);
        canary.is_untouched();
    }
}

#[test]
fn masks_do_not_come_from_the_image() {
    if !ready() {
        return;
    }
    // CVE-2025-31133: the mask's source is the host's /dev/null, whatever the image has in its place by then: a hook does what
    // a racer would, after the devices are made and before the masks are.
    let canary = Canary::new();
    let case =
        bare_dev(case().set("/linux/maskedPaths", json!(["/secret"]))).script("cat /secret; stat -c %t:%T /secret");
    std::fs::write(case.rootfs().join("secret"), "secret").unwrap();
    let swap = format!("cd {}/dev && rm null && ln -s {}/file null", case.rootfs().display(), canary.dir.display());
    case.set("/hooks/createRuntime/-", json!({"path": "/bin/sh", "args": ["sh", "-c", swap]})).yields("1:3");
    canary.is_untouched();
    let case2 = crate::support::case().set("/linux/maskedPaths", json!(["/secret", "/secrets"]));
    let case2 =
        case2.script("cat /secret; stat -c %t:%T /secret; ls /secrets; touch /secrets/x 2>/dev/null || echo closed");
    std::fs::write(case2.rootfs().join("secret"), "secret").unwrap();
    std::fs::create_dir(case2.rootfs().join("secrets")).unwrap();
    std::fs::write(case2.rootfs().join("secrets/file"), "secret").unwrap();
    case2.yields("1:3\nclosed");
    canary.is_untouched();
}

#[test]
fn a_masked_path_that_is_a_link_out_stays_inside() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    let case = case().set("/linux/maskedPaths", json!(["/mask"])).set("/linux/readonlyPaths", json!(["/ro"]));
    let case = case.script("cat /mask; touch /ro/x 2>/dev/null || echo closed");
    let inside = |path: &Path| case.rootfs().join(path.strip_prefix("/").unwrap());
    std::fs::create_dir_all(inside(&canary.dir)).unwrap();
    std::fs::write(inside(&canary.dir.join("file")), "secret").unwrap();
    swap(&case, "mask", &canary.dir.join("file"));
    swap(&case, "ro", &canary.dir);
    case.yields("closed");
    canary.is_untouched();
}

#[test]
fn a_working_directory_outside_the_root_is_refused() {
    if !ready() {
        return;
    }
    // CVE-2024-21626: a descriptor that leaked into init is no way out.
    // What such a descriptor leads to may lie inside, as the container's own /proc does: then its path leads there as well.
    let canary = Canary::new();
    let script = "here=$(stat -c %d:%i .); cd \"$(pwd)\" && test $here = $(stat -c %d:%i .) && echo inside";
    for fd in 3..14 {
        let path = format!("/proc/self/fd/{fd}");
        let named = case().script(script).set("/process/cwd", json!(path));
        let linked = case().script(script).set("/process/cwd", json!("/link"));
        symlink(&path, linked.rootfs().join("link")).unwrap();
        for out in [named.run(), linked.run()] {
            assert!(out.code == 1 || out.out == "inside\n", "{fd}: {out:?}");
        }
    }
    canary.is_untouched();
}

#[test]
fn a_descriptor_of_the_callers_is_no_working_directory() {
    if !ready() {
        return;
    }
    // CVE-2024-21626 with the leak made certain: an engine that left a directory of the host open when it called.
    let canary = Canary::new();
    for verb in ["run", "exec"] {
        let init = case().args(&["sleep", "100"]);
        let shell = |case: &Case, words: &str| {
            let script = format!(
                "exec {} --root {} {words} 7<{}",
                crate::support::TARE,
                case.dir.join("state").display(),
                canary.dir.display()
            );
            crate::support::run(std::process::Command::new("sh").arg("-c").arg(script).current_dir(&case.dir))
        };
        let out = if verb == "run" {
            let case = init.script("cat file; ls").set("/process/cwd", json!("/proc/self/fd/7"));
            case.write();
            shell(&case, &format!("run {}", case.id))
        } else {
            init.create().ok();
            init.on("start").ok();
            shell(&init, &format!("exec --cwd /proc/self/fd/7 {} cat file", init.id))
        };
        // Opening the directory for the shell was our own doing.
        let _ = canary.events();
        assert_ne!(out.code, 0, "{verb}: {out:?}");
        assert!(!out.out.contains("untouched"), "{verb}: {out:?}");
        canary.is_untouched();
    }
}

#[test]
fn the_callers_descriptors_end_at_the_program() {
    if !ready() {
        return;
    }
    // CVE-2016-9962, CVE-2024-21626: nothing but the three streams is open in a container, and in its hooks.
    let canary = Canary::new();
    let hook = "ls /proc/self/fd | wc -l >hook; exec true";
    let case = case().script("ls /proc/self/fd | wc -l");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cd {} && {hook}", case.dir.display())]});
    let case = case.set("/hooks/createRuntime/-", hook);
    case.write();
    let script = format!(
        "exec {} --root {} run {} 7<{} 9</etc/passwd",
        crate::support::TARE,
        case.dir.join("state").display(),
        case.id,
        canary.dir.display()
    );
    let out = crate::support::run(std::process::Command::new("sh").arg("-c").arg(script).current_dir(&case.dir));
    // The fourth is the listing's own.
    assert_eq!(out.ok(), "4");
    assert_eq!(std::fs::read_to_string(case.dir.join("hook")).unwrap().trim(), "4");
}

#[test]
fn a_console_over_a_link_stays_inside() {
    if !ready() {
        return;
    }
    // CVE-2025-52565: /dev/console is a link, and a terminal is bound over it.
    let canary = Canary::new();
    for target in
        [canary.dir.join("console"), relative(&canary).join("console"), "/proc/sys/kernel/core_pattern".into()]
    {
        let case = case().set("/process/terminal", json!(true)).without_mount("/dev");
        let case = case.script("stat -c %t /dev/console; cat /proc/sys/kernel/core_pattern");
        swap(&case, "dev/console", &target);
        let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        // The link is not followed: it is itself covered by the terminal.
        let out = case.run();
        assert_eq!(out.out.split_whitespace().collect::<Vec<_>>(), ["88", before.trim_end()], "{target:?}: {out:?}");
        canary.is_untouched();
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn a_multiplexer_of_the_images_own_makes_no_terminal() {
    if !ready() {
        return;
    }
    // Without a devpts of the container's own the image has what it likes at that path (rule R6).
    let canary = Canary::new();
    let case = case().set("/process/terminal", json!(true)).without_mount("/dev/pts").without_mount("/dev");
    let case = case.args(&["tty"]);
    std::fs::create_dir_all(case.rootfs().join("dev/pts")).unwrap();
    let place = case.rootfs().join("dev/pts/ptmx");
    symlink(canary.dir.join("file"), &place).unwrap();
    case.refused(&["process.terminal"]);
    std::fs::remove_file(&place).unwrap();
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666));
    nix::sys::stat::mknod(&place, kind, mode, nix::sys::stat::makedev(5, 2)).unwrap();
    case.refused(&["process.terminal"]);
    canary.is_untouched();
    // In a volume: what is not the multiplexer is not even opened, which would do something to a device or a pipe.
    let case = case.mount("/dev/pts", "bind", canary.dir.join("pts").to_str().unwrap(), &["bind"]);
    case.refused(&["process.terminal"]);
    canary.is_untouched();
}
