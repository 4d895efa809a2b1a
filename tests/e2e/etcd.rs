//! Desired state in etcd, and any number of replicas that serve it: what each does with a transaction, a compaction, a
//! mistake, and with an etcd that is away or behind. Killing them under load is `replicas`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use serde_json::Value;
use tollgate_tests::{
    etcd::{Etcd, PASSWORD, TlsFiles},
    ports::{self, Ports},
    replica::Replica,
    tls::Authority,
    toolbox::Toolbox,
    wait::{holds, wait_until},
    work_dir,
};

use crate::yaml::{self, Edge};

/// An etcd, and what is needed to write into it.
pub struct Fixture {
    pub toolbox: Toolbox,
    pub ports: Ports,
    pub folder: PathBuf,
    pub etcd: Etcd,
}

impl Fixture {
    pub fn start(name: &str) -> Self {
        let folder = work_dir::new(name).unwrap();
        let etcd = Etcd::start(folder.join("etcd")).unwrap();
        Self { toolbox: Toolbox::find().unwrap(), ports: Ports::free().unwrap(), folder, etcd }
    }

    /// A replica that is not started yet.
    pub fn replica(&self, name: &str) -> Replica {
        Replica::new(&self.toolbox, self.folder.join(name), &self.etcd.endpoint()).unwrap()
    }

    /// A replica that reaches etcd by way of this port.
    pub fn replica_by(&self, name: &str, port: u16) -> Replica {
        Replica::new(&self.toolbox, self.folder.join(name), &ports::loopback(port).to_string()).unwrap()
    }

    /// Lays files out in a folder, and has `xds-server push` write them.
    pub fn try_push(&self, files: &[(&str, &str)]) -> Output {
        let folder = self.folder.join("gateway");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        xds_server(&self.toolbox, &["push", "--quiet", "--etcd-endpoints", &self.etcd.endpoint()], &folder)
    }

    /// As [`Self::try_push`], and the version that the servers will call it.
    pub fn push(&self, files: &[(&str, &str)]) -> String {
        let output = self.try_push(files);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn xds_server(toolbox: &Toolbox, arguments: &[&str], path: &Path) -> Output {
    let mut command = std::process::Command::new(toolbox.binary("xds-server").unwrap());
    command.args(arguments).arg(path).output().unwrap()
}

/// Routes in one file and the clusters in another: neither is right without the other.
fn split(cluster: &str, ports: &Ports) -> [(&'static str, String); 2] {
    let edge = Edge {
        routes: vec![yaml::prefix("/", cluster)],
        clusters: vec![format!("{cluster}: {{ endpoints: [127.0.0.1:1] }}")],
        ..Edge::default()
    };
    let text = edge.text(ports);
    let at = text.find("clusters:").unwrap();
    [("10-routes.yaml", text[..at].to_owned()), ("20-clusters.yaml", format!("version: v1\n{}", &text[at..]))]
}

fn borrowed<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    files.iter().map(|(name, text)| (*name, &**text)).collect()
}

fn version(status: &Value) -> &str {
    status["config"]["version"].as_str().unwrap_or_default()
}

/// One file with one route.
pub fn gateway(path: &str, ports: &Ports) -> String {
    Edge::with_routes([&yaml::prefix(path, "a")]).text(ports)
}

#[test]
fn one_transaction_is_one_change_and_gives_the_version_that_the_folder_has() {
    const RELOADS: &str = "tollgate_config_reloads_total";
    let fixture = Fixture::start("etcd-transaction");
    fixture.push(&borrowed(&split("first", &fixture.ports)));
    let replica = fixture.replica("one");
    replica.start().unwrap();
    let before = replica.metric(RELOADS, &["accepted"]).unwrap();
    for n in 1..=10 {
        // Every one renames a cluster in one key and its route in the other.
        let pushed = fixture.push(&borrowed(&split(&format!("cluster-{n}"), &fixture.ports)));
        replica.wait_for("the version", |status| version(status) == pushed).unwrap();
        let folder = fixture.folder.join("gateway");
        let validated = xds_server(&fixture.toolbox, &["validate", "--quiet"], &folder);
        assert_eq!(String::from_utf8(validated.stdout).unwrap().trim(), pushed);
    }
    assert_eq!(replica.metric(RELOADS, &["accepted"]).unwrap() - before, 10.0);
    assert_eq!(replica.metric(RELOADS, &["rejected"]).unwrap(), 0.0);
    // Keys whose files are gone are deleted, in the same transaction as the rest.
    let pushed = fixture.push(&[("only.yaml", &gateway("/only", &fixture.ports))]);
    let status = replica.wait_for("the last version", |status| version(status) == pushed).unwrap();
    let revision = status["config"]["revision"].as_i64().unwrap();
    assert_eq!(replica.metric("tollgate_config_revision", &[]).unwrap(), revision as f64);
    assert_eq!(replica.metric("tollgate_etcd_connected", &[]).unwrap(), 1.0);
    assert_eq!(replica.metric(RELOADS, &["rejected"]).unwrap(), 0.0);
}

#[test]
fn push_refuses_what_is_wrong_and_writes_nothing() {
    let fixture = Fixture::start("etcd-push");
    let good = fixture.push(&[("a.yaml", &gateway("/good", &fixture.ports))]);
    let wrong = gateway("/good", &fixture.ports).replace("prefix:", "prefx:");
    let output = fixture.try_push(&[("a.yaml", &wrong)]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `prefix`?"), "{output:?}");
    let replica = fixture.replica("one");
    replica.start().unwrap();
    assert_eq!(version(&replica.status().unwrap()), good);

    fixture.etcd.kill().unwrap();
    let output = fixture.try_push(&[("a.yaml", &gateway("/late", &fixture.ports))]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let nowhere = xds_server(&fixture.toolbox, &["push"], &fixture.folder);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}

#[test]
fn a_watch_resumes_after_a_restart_of_etcd_and_after_compaction() {
    use rustix::process::{Pid, Signal, kill_process};
    let fixture = Fixture::start("etcd-compaction");
    fixture.push(&[("a.yaml", &gateway("/first", &fixture.ports))]);
    let replica = fixture.replica("one");
    replica.start().unwrap();
    let pid = Pid::from_raw(replica.pid().unwrap()).unwrap();

    for is_compacted in [false, true] {
        // It can't connect anew, and hears nothing of what happens now.
        kill_process(pid, Signal::STOP).unwrap();
        fixture.etcd.kill().unwrap();
        fixture.etcd.restart().unwrap();
        let mut pushed = String::new();
        for n in 1..=5 {
            pushed =
                fixture.push(&[("a.yaml", &gateway(&format!("/edit-{n}-{is_compacted}"), &fixture.ports))]);
        }
        if is_compacted {
            fixture.etcd.compact().unwrap();
        }
        kill_process(pid, Signal::CONT).unwrap();
        replica.wait_for("what was missed", |status| version(status) == pushed).unwrap();
        replica.wait_for("the connection", |status| status["etcd"]["connected"] == true).unwrap();
    }
    assert_eq!(
        replica.log().matches("all keys read anew").count(),
        1,
        "once, where it was compacted: {}",
        replica.log()
    );
    let pushed = fixture.push(&[("a.yaml", &gateway("/after", &fixture.ports))]);
    replica.wait_for("an edit after it", |status| version(status) == pushed).unwrap();
}

#[test]
fn an_etcd_that_is_silent_is_noticed() {
    use rustix::process::{Pid, Signal, kill_process};
    let fixture = Fixture::start("etcd-silent");
    fixture.push(&[("a.yaml", &gateway("/first", &fixture.ports))]);
    let replica = fixture.replica("one");
    replica.start().unwrap();
    replica.wait_for("the connection", |status| status["etcd"]["connected"] == true).unwrap();
    let pid = Pid::from_raw(fixture.etcd.pid().unwrap()).unwrap();
    // The connection stays open: only pings, every 10 s, find out.
    kill_process(pid, Signal::STOP).unwrap();
    let noticed = wait_until("the loss", Duration::from_secs(60), || {
        holds(replica.metric("tollgate_etcd_connected", &[])? == 0.0)
    });
    kill_process(pid, Signal::CONT).unwrap();
    noticed.unwrap();
    let pushed = fixture.push(&[("a.yaml", &gateway("/second", &fixture.ports))]);
    replica.wait_for("the edit", |status| version(status) == pushed).unwrap();
}

#[test]
fn last_good_is_served_while_etcd_is_away() {
    let fixture = Fixture::start("etcd-away");
    let pushed = fixture.push(&[("a.yaml", &gateway("/first", &fixture.ports))]);
    let replica = fixture.replica("one");
    replica.start().unwrap();
    fixture.etcd.kill().unwrap();
    let status = replica.wait_for("the loss", |status| status["etcd"]["connected"] == false).unwrap();
    assert_eq!(version(&status), pushed);
    assert_eq!(replica.metric("tollgate_etcd_connected", &[]).unwrap(), 0.0);

    // A restart finds it on disk, and a server that never was there finds nothing.
    replica.kill().unwrap();
    replica.start().unwrap();
    let status = replica.status().unwrap();
    assert_eq!((version(&status), &status["etcd"]["connected"]), (&*pushed, &false.into()), "{status}");
    assert!(status["etcd"]["error"].as_str().unwrap().contains(&fixture.etcd.endpoint()), "{status}");
    let stranger = fixture.replica("two");
    let error = format!("{:#}", stranger.start().unwrap_err());
    assert!(
        error.contains("exit status: 1") && error.contains("can't read the configuration from etcd"),
        "{error}"
    );

    fixture.etcd.restart().unwrap();
    let pushed = fixture.push(&[("a.yaml", &gateway("/second", &fixture.ports))]);
    let status = replica.wait_for("the edit", |status| version(status) == pushed).unwrap();
    assert_eq!((&status["etcd"]["connected"], &status["etcd"]["error"]), (&true.into(), &Value::Null));
}

#[test]
fn a_bad_edit_in_etcd_is_told_and_changes_nothing_on_running_and_on_new_replicas() {
    let fixture = Fixture::start("etcd-bad");
    let ports = &fixture.ports;
    let pushed = fixture.push(&[("a.yaml", &gateway("/first", ports))]);
    let replica = fixture.replica("one");
    replica.start().unwrap();

    let wrong = gateway("/second", ports).replace("prefix:", "prefx:");
    for value in [&wrong, "\u{1}no: [yaml", "", &wrong.replace("prefx", "prefixes")] {
        fixture.etcd.put("/tollgate/a.yaml", value).unwrap();
    }
    let is_told = |status: &Value| {
        let error = status["config"]["error"]["text"].as_str().unwrap_or_default();
        error.contains("etcd:/tollgate/a.yaml:10:32") && error.contains("did you mean `prefix`?")
    };
    let status = replica.wait_for("the mistake", is_told).unwrap();
    assert_eq!(version(&status), pushed);
    // It was right, if only for a moment: every replica takes it, and the mistake behind it is told.
    let brief = gateway("/brief", ports);
    fixture.etcd.put("/tollgate/a.yaml", &brief).unwrap();
    fixture.etcd.put("/tollgate/a.yaml", &wrong).unwrap();
    let status =
        replica.wait_for("what was right", |status| version(status) != pushed && is_told(status)).unwrap();
    let brief = version(&status).to_owned();

    // A replica without any memory looks it up in etcd's history.
    let stranger = fixture.replica("two");
    stranger.start().unwrap();
    let status = stranger.wait_for("the mistake", is_told).unwrap();
    assert_eq!(version(&status), brief);
    assert_eq!(status["config"]["revision"], replica.status().unwrap()["config"]["revision"]);

    // Where there is no history any more, the disk remembers; and who has none does not start.
    fixture.etcd.compact().unwrap();
    replica.kill().unwrap();
    replica.start().unwrap();
    assert_eq!(version(&replica.status().unwrap()), brief);
    let error = format!("{:#}", fixture.replica("three").start().unwrap_err());
    assert!(error.contains("exit status: 78") && error.contains("did you mean `prefix`?"), "{error}");

    let pushed = fixture.push(&[("a.yaml", &gateway("/right", ports))]);
    for replica in [&replica, &stranger] {
        replica
            .wait_for("the edit", |status| version(status) == pushed && status["config"]["error"].is_null())
            .unwrap();
    }
}

#[test]
fn an_etcd_that_is_behind_is_told_and_not_followed() {
    let fixture = Fixture::start("etcd-behind");
    for n in 1..=5 {
        fixture.push(&[("a.yaml", &gateway(&format!("/edit-{n}"), &fixture.ports))]);
    }
    let replica = fixture.replica("one");
    replica.start().unwrap();
    let served = version(&replica.status().unwrap()).to_owned();

    // As after a restore from an old backup.
    fixture.etcd.kill().unwrap();
    fixture.etcd.forget().unwrap();
    fixture.etcd.restart().unwrap();
    let old = fixture.push(&[("a.yaml", &gateway("/edit-1", &fixture.ports))]);
    let is_told = |status: &Value| {
        status["etcd"]["error"].as_str().is_some_and(|error| error.contains("is older than"))
            && version(status) == served
    };
    replica.wait_for("that it is behind", is_told).unwrap();
    replica.kill().unwrap();
    replica.start().unwrap();
    replica.wait_for("that it is behind, after a restart", is_told).unwrap();
    // Once it is past what was seen, it is followed, from all its keys on.
    for n in 1..=5 {
        fixture.etcd.put("/elsewhere", &n.to_string()).unwrap();
    }
    replica.wait_for("what it holds", |status| version(status) == old).unwrap();
}

#[test]
fn an_etcd_with_tls_and_a_password_is_followed_by_who_has_both() {
    let folder = work_dir::new("etcd-secured").unwrap();
    let authority = Authority::new("etcd").unwrap();
    let issued = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let tls = TlsFiles {
        ca: file("ca.pem", authority.pem()),
        cert: file("cert.pem", &issued.chain),
        key: file("key.pem", &issued.key),
    };
    let password = file("password", &format!("{PASSWORD}\n"));
    let argument = |name: &str, path: &Path| [name.to_owned(), path.display().to_string()];
    let tls_arguments = [
        argument("--etcd-ca", &tls.ca),
        argument("--etcd-cert", &tls.cert),
        argument("--etcd-key", &tls.key),
    ];
    let user = [["--etcd-user".to_owned(), "root".to_owned()], argument("--etcd-password-file", &password)];
    let all = [&tls_arguments[..], &user].concat().concat();
    let etcd = Etcd::start_secured(folder.join("etcd"), tls.clone()).unwrap();
    let (toolbox, ports) = (Toolbox::find().unwrap(), Ports::free().unwrap());
    let yaml = file("gateway.yaml", &gateway("/first", &ports));

    let push = |arguments: &[String]| {
        let endpoint = etcd.endpoint();
        let arguments: Vec<&str> = ["push", "--quiet", "--etcd-endpoints", &endpoint]
            .into_iter()
            .chain(arguments.iter().map(String::as_str))
            .chain(["--etcd-start-timeout", "1s"])
            .collect();
        xds_server(&toolbox, &arguments, &yaml)
    };
    let pushed = push(&all);
    assert!(pushed.status.success(), "{pushed:?}");
    let version_pushed = String::from_utf8(pushed.stdout).unwrap();
    // Without one of them there is no answer.
    for too_little in [&all[..6], &all[6..]] {
        let refused = push(too_little);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains(PASSWORD));
    }
    let replica = Replica::new(&toolbox, folder.join("one"), &etcd.endpoint()).unwrap().with(&all);
    replica.start().unwrap();
    replica.wait_for("what was pushed", |status| version(status) == version_pushed.trim()).unwrap();
    // etcd's tokens die with it.
    etcd.kill().unwrap();
    etcd.restart().unwrap();
    fs::write(&yaml, gateway("/second", &ports)).unwrap();
    let pushed = String::from_utf8(push(&all).stdout).unwrap();
    replica.wait_for("the next", |status| version(status) == pushed.trim()).unwrap();
    assert!(!replica.log().contains(PASSWORD));
}

#[test]
fn every_replica_gives_equal_content_equal_versions() {
    let fixture = Fixture::start("etcd-equal");
    fixture.push(&[("a.yaml", &gateway("/first", &fixture.ports))]);
    // Of one's endpoints, the first is dead.
    let endpoints = format!("127.0.0.1:1,{}", fixture.etcd.endpoint());
    let one = Replica::new(&fixture.toolbox, fixture.folder.join("one"), &endpoints).unwrap();
    let replicas = [one, fixture.replica("two"), fixture.replica("three")];
    // One is there from the start, one comes later, one comes back.
    replicas[0].start().unwrap();
    replicas[2].start().unwrap();
    for n in 1..=3 {
        fixture.push(&borrowed(&split(&format!("cluster-{n}"), &fixture.ports)));
    }
    replicas[2].kill().unwrap();
    let pushed = fixture.push(&borrowed(&split("last", &fixture.ports)));
    replicas[1].start().unwrap();
    replicas[2].start().unwrap();
    for replica in &replicas {
        replica
            .wait_for("the version, settled", |status| {
                let group = &status["groups"]["edge"];
                version(status) == pushed && group["version"] == *pushed && group["stage"] == "settled"
            })
            .unwrap();
    }
    let snapshots =
        replicas.each_ref().map(|replica| replica.status().unwrap()["groups"]["edge"]["snapshot"].clone());
    assert!(snapshots[0].as_str().is_some_and(|snapshot| !snapshot.is_empty()), "{snapshots:?}");
    assert!(snapshots.iter().all(|snapshot| *snapshot == snapshots[0]), "{snapshots:?}");
}
