//! Finding the program: order, wrapper, version rule.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use kilo::{Program, ProgramError, Search, TESTED};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An executable script that prints a version.
fn script(path: &Path, body: &str) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "cli-linux-x64-baseline",
        _ => "cli-linux-arm64",
    }
}

fn setting(path: &Path) -> Search {
    Search {
        setting: Some(path.to_owned()),
        path_var: std::env::var_os("PATH"),
        own_install: None,
    }
}

#[tokio::test]
async fn the_stand_in_is_a_program() {
    let found = Program::find(&setting(&support::fake())).await.unwrap();
    assert_eq!((found.program.version, found.warning), (TESTED, None));
}

#[tokio::test]
async fn a_setting_that_is_no_good_is_an_error_and_not_skipped() {
    let dir = TempDir::new().unwrap();
    let good = dir.path().join("own");
    script(
        &good
            .join("node_modules/@kilocode")
            .join(platform())
            .join("bin/kilo"),
        "echo 7.7.7",
    );
    for path in ["missing", ""] {
        let mut search = setting(&dir.path().join(path));
        search.own_install = Some(good.clone());
        let error = Program::find(&search).await.unwrap_err();
        assert!(
            matches!(error, ProgramError::SettingUnusable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("set the path"), "{error}");
    }
}

#[tokio::test]
async fn versions_are_judged() {
    let dir = TempDir::new().unwrap();
    let newer = script(&dir.path().join("newer"), "echo 7.9.1");
    assert!(
        Program::find(&setting(&newer))
            .await
            .unwrap()
            .warning
            .unwrap()
            .contains("7.9.1")
    );
    for (name, body) in [
        ("old", "echo 7.0.33"),
        ("major", "echo 8.0.0"),
        ("text", "echo hello"),
        ("none", ":"),
    ] {
        let error = Program::find(&setting(&script(&dir.path().join(name), body)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ProgramError::Unsupported { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("npm install"), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("kilo");
    std::fs::write(&path, "\x7fELF not really").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Program::find(&setting(&path)).await.unwrap_err();
    assert!(matches!(error, ProgramError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_wrapper_leads_to_the_platform_binary() {
    let dir = TempDir::new().unwrap();
    let modules = dir.path().join("node_modules");
    let wrapper = script(&modules.join("@kilocode/cli/bin/kilo"), "exit 9");
    let link = modules.join(".bin/kilo");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&wrapper, &link).unwrap();
    let error = Program::find(&setting(&link)).await.unwrap_err();
    assert!(matches!(error, ProgramError::WrapperOnly { .. }), "{error}");
    let binary = script(
        &modules.join("@kilocode").join(platform()).join("bin/kilo"),
        "echo 7.7.7",
    );
    for path in [&link, &wrapper] {
        let found = Program::find(&setting(path)).await.unwrap();
        assert_eq!(found.program.path, binary.canonicalize().unwrap());
    }
    let on_path = Search {
        setting: None,
        path_var: Some(link.parent().unwrap().into()),
        own_install: None,
    };
    assert_eq!(
        Program::find(&on_path).await.unwrap().program.path,
        binary.canonicalize().unwrap()
    );
}

#[tokio::test]
async fn our_own_installation_comes_before_the_path() {
    let dir = TempDir::new().unwrap();
    let own = script(
        &dir.path()
            .join("own/node_modules/@kilocode")
            .join(platform())
            .join("bin/kilo"),
        "echo 7.7.7",
    );
    let path_dir = dir.path().join("bin");
    let search = |own_install: Option<&str>| Search {
        setting: None,
        path_var: Some(path_dir.clone().into()),
        own_install: own_install.map(|name| dir.path().join(name)),
    };
    let error = Program::find(&search(Some("absent"))).await.unwrap_err();
    assert!(matches!(error, ProgramError::NotFound { .. }), "{error}");
    assert_eq!(
        Program::find(&search(Some("own")))
            .await
            .unwrap()
            .program
            .path,
        own
    );
    script(&path_dir.join("kilo"), "echo 7.7.7");
    let error = Program::find(&search(None)).await.unwrap_err();
    assert!(
        matches!(error, ProgramError::WrapperOnly { .. }),
        "a script on the PATH: {error}"
    );
}
