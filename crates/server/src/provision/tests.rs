//! The install against scripts that stand in for npm.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use super::{Install, Progress, ProvisionError};

const SOON: Duration = Duration::from_secs(10);

/// Installs what the real one would; counts its calls. `$3` is the prefix.
const GOOD: &str = r#"
echo called >> "$FAKE/calls"
echo "added 2 packages"
at="$3/node_modules/@kilocode/cli-linux-$ARCH"
mkdir -p "$at/bin"
echo '#!/bin/sh' > "$at/bin/kilo"
echo '{"version":"7.7.7"}' > "$at/package.json"
"#;

/// A leader with a child, both of which would stay for ever.
const STUCK: &str = r#"
sleep 1000 &
echo "$$ $!" > "$FAKE/pids.new"
mv "$FAKE/pids.new" "$FAKE/pids"
echo started
wait
"#;

struct Fake {
    dir: TempDir,
}

impl Fake {
    fn npm(script: &str) -> Self {
        let fake = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let bin = fake.path("bin");
        std::fs::create_dir(&bin).unwrap();
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x64"
        };
        let here = fake.dir.path().display();
        let text = format!("#!/bin/sh\nFAKE='{here}' ARCH={arch}\n{script}");
        std::fs::write(bin.join("npm"), text).unwrap();
        std::fs::set_permissions(bin.join("npm"), PermissionsExt::from_mode(0o755)).unwrap();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn install(&self) -> Install {
        let mut search_path = OsString::from(self.path("bin"));
        search_path.push(":/usr/bin:/bin");
        let (dir, version) = (self.path("kilo"), "7.7.7".to_owned());
        Install {
            dir,
            version,
            search_path,
            deadline: SOON,
        }
    }

    fn calls(&self) -> usize {
        std::fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// What lies in the install directory, the lock aside.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("kilo")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".install.lock").collect()
    }

    /// Waits until neither the leader nor its child runs.
    async fn all_gone(&self) {
        let pids = std::fs::read_to_string(self.path("pids")).unwrap();
        let running = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The state follows the name; a zombie has ended and waits for its parent.
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with(['R', 'S', 'D']))
        };
        assert_eq!(pids.split_whitespace().count(), 2);
        let gone = async {
            while pids.split_whitespace().any(running) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, gone).await.unwrap();
    }
}

async fn fails(script: &str) -> (Fake, ProvisionError) {
    let fake = Fake::npm(script);
    let error = fake.install().ensure(|_| ()).await.unwrap_err();
    assert_eq!(fake.left(), Vec::<String>::new());
    (fake, error)
}

#[tokio::test]
async fn the_first_call_installs_and_the_second_finds() {
    let fake = Fake::npm(GOOD);
    let told = Mutex::new(Vec::new());
    let program = fake
        .install()
        .ensure(|step| told.lock().unwrap().push(step))
        .await
        .unwrap();
    assert!(program.is_file() && program.starts_with(fake.path("kilo/node_modules/@kilocode")));
    assert_eq!(
        told.into_inner().unwrap(),
        [
            Progress::Installing {
                package: "@kilocode/cli@7.7.7".into()
            },
            Progress::Line("added 2 packages".into()),
            Progress::Installed(program.clone()),
        ]
    );
    assert_eq!(fake.left(), ["node_modules"]);

    let again = Install {
        search_path: OsString::new(),
        ..fake.install()
    };
    assert_eq!(again.ensure(|_| ()).await.unwrap(), program);
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn two_at_once_install_once() {
    let fake = Fake::npm(GOOD);
    let install = fake.install();
    let (one, other) = tokio::join!(install.ensure(|_| ()), install.ensure(|_| ()));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn the_wait_for_another_install_is_told_and_has_an_end() {
    let fake = Fake::npm(GOOD);
    std::fs::create_dir(fake.path("kilo")).unwrap();
    let other = std::fs::File::create(fake.path("kilo/.install.lock")).unwrap();
    other.lock().unwrap();
    let install = Install {
        deadline: Duration::from_millis(100),
        ..fake.install()
    };
    let told = Mutex::new(Vec::new());
    let error = install
        .ensure(|step| told.lock().unwrap().push(step))
        .await
        .unwrap_err();
    assert!(matches!(error, ProvisionError::Deadline { .. }), "{error}");
    assert_eq!(told.into_inner().unwrap(), [Progress::WaitingForOther]);
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn without_npm_it_says_what_to_install() {
    let fake = Fake::npm(GOOD);
    let install = Install {
        search_path: fake.path("nothing").into(),
        ..fake.install()
    };
    let error = install.ensure(|_| ()).await.unwrap_err();
    assert!(matches!(error, ProvisionError::NpmMissing), "{error}");
    assert!(error.to_string().contains("install Node.js"), "{error}");
}

#[tokio::test]
async fn a_missing_network_is_named_with_the_last_lines_of_npm() {
    let script = "for i in $(seq 30); do echo line $i; done; echo npm error code ENOTFOUND >&2
        sleep 0.1; exit 1";
    let (_, error) = fails(script).await;
    let text = error.to_string();
    assert!(matches!(error, ProvisionError::Network { lines } if lines.len() == 20));
    assert!(
        text.contains("check the network") && text.contains("ENOTFOUND"),
        "{text}"
    );
    assert!(!text.contains("line 5\n"), "{text}");
}

#[tokio::test]
async fn a_failed_npm_leaves_nothing_half_done() {
    let script = "mkdir -p $3/node_modules/half; echo npm error code E404 >&2; exit 3";
    let (_, error) = fails(script).await;
    assert!(matches!(error, ProvisionError::NpmFailed { .. }), "{error}");
    assert!(error.to_string().contains("E404"), "{error}");
}

#[tokio::test]
async fn an_install_without_the_program_is_none() {
    let (_, error) = fails("mkdir -p $3/node_modules/@kilocode/cli").await;
    assert!(
        matches!(error, ProvisionError::ProgramMissing { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("npm config get omit"), "{error}");
}

#[tokio::test]
async fn at_the_deadline_npm_ends_with_its_children() {
    let fake = Fake::npm(STUCK);
    let install = Install {
        deadline: Duration::from_secs(1),
        ..fake.install()
    };
    let error = install.ensure(|_| ()).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Deadline { lines, .. } if lines == ["started"]));
    fake.all_gone().await;
    assert_eq!(fake.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_install_ends_npm_with_its_children() {
    let fake = Fake::npm(STUCK);
    let install = fake.install();
    let started = tokio::sync::Notify::new();
    let run = install.ensure(|step| {
        if step == Progress::Line("started".into()) {
            started.notify_one();
        }
    });
    tokio::select! {
        ended = run => panic!("{ended:?}"),
        () = started.notified() => (),
    }
    fake.all_gone().await;
}

#[tokio::test]
async fn a_child_that_npm_forgot_does_not_keep_the_install() {
    let fake = Fake::npm(&format!("{GOOD}\nsleep 1000 & echo \"$$ $!\" > $FAKE/pids"));
    fake.install().ensure(|_| ()).await.unwrap();
    fake.all_gone().await;
}

#[tokio::test]
async fn an_old_version_and_the_leftovers_of_a_crash_are_replaced() {
    let fake = Fake::npm(GOOD);
    let program = fake.install().ensure(|_| ()).await.unwrap();
    let manifest = program.parent().unwrap().with_file_name("package.json");
    std::fs::write(&manifest, r#"{"version":"7.0.33"}"#).unwrap();
    std::fs::create_dir_all(fake.path("kilo/.staging-dead/node_modules")).unwrap();

    assert_eq!(fake.install().ensure(|_| ()).await.unwrap(), program);
    assert!(std::fs::read_to_string(manifest).unwrap().contains("7.7.7"));
    assert_eq!(fake.left(), ["node_modules"]);
    assert_eq!(fake.calls(), 2);
}

#[tokio::test]
async fn packages_of_others_are_not_replaced() {
    let fake = Fake::npm(GOOD);
    std::fs::create_dir_all(fake.path("kilo/node_modules/express")).unwrap();
    let error = fake.install().ensure(|_| ()).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Foreign { .. }), "{error}");
    assert!(fake.path("kilo/node_modules/express").is_dir());
}

#[tokio::test]
async fn only_versions_are_given_to_npm() {
    let fake = Fake::npm(GOOD);
    for version in [
        "latest", "", "--7.7.7", "7.7.7;id", "^7.7.7", "7/../x.y", "7",
    ] {
        let install = Install {
            version: version.into(),
            ..fake.install()
        };
        let error = install.ensure(|_| ()).await.unwrap_err();
        assert!(
            matches!(error, ProvisionError::Version { .. }),
            "{version}: {error}"
        );
    }
    assert_eq!(fake.calls(), 0);
}
