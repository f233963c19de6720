use super::super::{capabilities, cpu_list};
use super::*;

#[test]
fn program_and_environment() {
    fine(process(r#","env":["A=","A=b=c","_="]"#));
    wrong(told(r#","process":{"cwd":"/"}"#), &["process.args: is empty"]);
    wrong(told(r#","process":{"args":["a"]}"#), &["process.cwd: \"\" is no absolute path"]);
    wrong(process(r#","commandLine":"a""#), &["process.commandLine: is for Windows"]);
    wrong(
        process(r#","env":["A","=b","a\u0000=b"]"#),
        &[
            "process.env[0]: \"A\" has no `=`",
            "process.env[1]: \"=b\" has no name",
            "process.env[2]: \"a\\0=b\" holds a NUL",
        ],
    );
    wrong(
        told(r#","process":{"args":["a","\u0000"],"cwd":"/\u0000"}"#),
        &["process.args[1]: \"\\0\" holds", "process.cwd: \"/\\0\" holds"],
    );
    wrong(
        process(r#","apparmorProfile":"\u0000","selinuxLabel":"\u0000""#),
        &["process.apparmorProfile: ", "process.selinuxLabel: "],
    );
}

#[test]
fn console_size() {
    fine(process(r#","terminal":true,"consoleSize":{"height":0,"width":65535}"#));
    fine(process(r#","consoleSize":{"height":70000,"width":1}"#));
    wrong(
        process(r#","terminal":true,"consoleSize":{"height":65536,"width":99999}"#),
        &["process.consoleSize.height: is 65536", "process.consoleSize.width: is 99999"],
    );
}

#[test]
fn users() {
    fine(process(r#","user":{"uid":4294967294,"gid":0,"umask":511,"additionalGids":[1,4294967294]}"#));
    wrong(
        process(r#","user":{"uid":4294967295,"gid":4294967295,"umask":512,"additionalGids":[1,4294967295]}"#),
        &[
            "process.user.uid: is 4294967295, which is no id",
            "process.user.gid: is 4294967295",
            "process.user.additionalGids[1]: is 4294967295",
            "process.user.umask: is 512 (0o1000)",
        ],
    );
    let mapped = |user: &str| {
        told(&format!(
            r#","process":{{"args":["a"],"cwd":"/","user":{user}}},"linux":{{"namespaces":[{{"type":"user"}}],
            "uidMappings":[{{"containerID":0,"hostID":1000,"size":10}}],"gidMappings":[{{"containerID":5,"hostID":1000,"size":1}}]}}"#
        ))
    };
    fine(mapped(r#"{"uid":9,"gid":5,"additionalGids":[5]}"#));
    wrong(
        mapped(r#"{"uid":10,"gid":4,"additionalGids":[6]}"#),
        &[
            "process.user.uid: is 10, which the container's id map",
            "process.user.gid: is 4",
            "process.user.additionalGids[0]: is 6",
        ],
    );
}

#[test]
fn capability_sets() {
    fine(process(
        r#","capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"],"inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}"#,
    ));
    warned(
        process(r#","capabilities":{"bounding":["CAP_ZZZ","CAP_KILL","cap_kill"],"permitted":["CAP_AAA","CAP_ZZZ"]}"#),
        &["process.capabilities: ignoring unknown or unavailable capabilities: [CAP_AAA CAP_ZZZ cap_kill]"],
    );
    wrong(
        process(r#","capabilities":{"effective":["CAP_KILL","CAP_CHOWN","CAP_BPF"],"permitted":["CAP_KILL"]}"#),
        &["process.capabilities.effective: CAP_CHOWN, CAP_BPF cannot be effective"],
    );
    let lacking = "process.capabilities.ambient: can't raise ambient capability CAP_KILL: it is not both permitted and inheritable";
    warned(process(r#","capabilities":{"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}"#), &[lacking]);
    warned(process(r#","capabilities":{"inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}"#), &[lacking]);
    assert_eq!(capabilities::number("CAP_CHOWN"), Some(0));
    assert_eq!(capabilities::number("CAP_SETFCAP"), Some(31));
    assert_eq!(capabilities::number("CAP_SYSLOG"), Some(34));
    assert_eq!(capabilities::number("CAP_CHECKPOINT_RESTORE"), Some(40));
    assert_eq!(capabilities::mask(&["CAP_KILL".into(), "CAP_NO".into(), "CAP_CHOWN".into()]), 0b10_0001);
}

#[test]
fn resource_limits() {
    fine(process(
        r#","rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615},{"type":"RLIMIT_STACK","soft":1,"hard":1}]"#,
    ));
    wrong(
        process(
            r#","rlimits":[{"type":"RLIMIT_FOO","soft":0,"hard":0},{"type":"RLIMIT_CPU","soft":2,"hard":1},{"type":"RLIMIT_CPU","soft":1,"hard":1}]"#,
        ),
        &[
            "process.rlimits[0].type: \"RLIMIT_FOO\" is no",
            "process.rlimits[1].soft: is 2, which is more than the hard limit 1",
            "process.rlimits[2].type: RLIMIT_CPU is limited twice, first by process.rlimits[1]",
        ],
    );
}

#[test]
fn oom_score() {
    fine(process(r#","oomScoreAdj":-1000"#));
    fine(process(r#","oomScoreAdj":1000"#));
    wrong(process(r#","oomScoreAdj":1001"#), &["process.oomScoreAdj: is 1001"]);
    wrong(process(r#","oomScoreAdj":-1001"#), &["process.oomScoreAdj: is -1001"]);
}

#[test]
fn schedulers() {
    let scheduler = |rest: &str| process(&format!(r#","scheduler":{{"policy":{rest}}}"#));
    fine(scheduler(r#""SCHED_OTHER","nice":-20"#));
    fine(scheduler(r#""SCHED_BATCH","nice":19,"flags":["SCHED_FLAG_RESET_ON_FORK"]"#));
    fine(scheduler(r#""SCHED_IDLE""#));
    fine(scheduler(r#""SCHED_FIFO","priority":1"#));
    fine(scheduler(r#""SCHED_RR","priority":99"#));
    fine(scheduler(r#""SCHED_DEADLINE","runtime":1024,"deadline":1024"#));
    fine(scheduler(r#""SCHED_DEADLINE","runtime":10000,"deadline":20000,"period":20000"#));
    wrong(scheduler(r#""SCHED_FOO""#), &["process.scheduler.policy: \"SCHED_FOO\" is no"]);
    wrong(scheduler(r#""SCHED_ISO""#), &["process.scheduler.policy: SCHED_ISO is in no kernel"]);
    wrong(scheduler(r#""SCHED_OTHER","nice":20"#), &["process.scheduler.nice: is 20"]);
    wrong(
        scheduler(r#""SCHED_OTHER","nice":-21,"priority":1"#),
        &["process.scheduler.nice: is -21", "process.scheduler.priority: is 1; only"],
    );
    wrong(scheduler(r#""SCHED_FIFO""#), &["process.scheduler.priority: is 0; SCHED_FIFO takes 1 to 99"]);
    wrong(scheduler(r#""SCHED_RR","priority":100"#), &["process.scheduler.priority: is 100"]);
    wrong(scheduler(r#""SCHED_IDLE","flags":["SCHED_FLAG_X"]"#), &["process.scheduler.flags[0]: \"SCHED_FLAG_X\""]);
    wrong(
        scheduler(r#""SCHED_OTHER","runtime":1,"deadline":2,"period":3"#),
        &[
            "process.scheduler.runtime: is for",
            "process.scheduler.deadline: is for",
            "process.scheduler.period: is for",
        ],
    );
    wrong(scheduler(r#""SCHED_DEADLINE""#), &["process.scheduler.runtime: is 0; 1024"]);
    wrong(
        scheduler(r#""SCHED_DEADLINE","runtime":3000,"deadline":2000,"period":1000"#),
        &["process.scheduler.deadline: is 2000, which is less", "process.scheduler.period: is 1000, which is less"],
    );
    wrong(
        scheduler(r#""SCHED_DEADLINE","runtime":3000,"deadline":9223372036854775808"#),
        &["process.scheduler.deadline: is 9223372036854775808; it must be below"],
    );
}

#[test]
fn io_priorities() {
    fine(process(r#","ioPriority":{"class":"IOPRIO_CLASS_BE","priority":7}"#));
    fine(process(r#","ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":0}"#));
    wrong(
        process(r#","ioPriority":{"class":"IOPRIO_CLASS_NONE","priority":8}"#),
        &["process.ioPriority.class: ", "process.ioPriority.priority: is 8"],
    );
    wrong(
        process(r#","ioPriority":{"class":"IOPRIO_CLASS_RT","priority":-1}"#),
        &["process.ioPriority.priority: is -1"],
    );
}

#[test]
fn cpu_lists() {
    assert_eq!(cpu_list(""), Ok(vec![]));
    assert_eq!(cpu_list(" 0 - 3 ,, 7,8191"), Ok(vec![(0, 3), (7, 7), (8191, 8191)]));
    for bad in ["a", "1-", "-1", "3-2", "8192", "1-2-3", "+1", "1 2", "0x1", "99999999999"] {
        assert!(cpu_list(bad).is_err(), "{bad}");
    }
    fine(process(r#","execCPUAffinity":{"initial":"0-3,7","final":""}"#));
    wrong(
        process(r#","execCPUAffinity":{"initial":"x","final":"3-1"}"#),
        &["process.execCPUAffinity.initial: ", "process.execCPUAffinity.final: "],
    );
}

#[test]
fn a_lone_process_is_held_against_the_containers_maps() {
    let config = br#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":5,"size":1}],"gidMappings":[{"containerID":0,"hostID":5,"size":1}]}}"#;
    let container = parse::config(config).unwrap().0;
    let lone = parse::process(br#"{"args":["a"],"cwd":"/","user":{"uid":1,"gid":0}}"#).unwrap().0;
    let mut problems = Problems::default();
    crate::validate::process(&lone, container.linux.as_ref(), &mut problems);
    assert_eq!(problems.to_string(), "process.user.uid: is 1, which the container's id map does not map");
    problems = Problems::default();
    crate::validate::process(&lone, None, &mut problems);
    assert_eq!(problems, Problems::default());
}
