//! The workspace against the real git: what is kept, what is refused, what never runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use rig::{BeadId, Class, DispatchId, Stage, Work};
use tempfile::TempDir;

use super::*;

/// A remote with one commit on `main`, and a rig's directory.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self::empty();
        bench.push("main", "readme", "first\n");
        bench
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self { dir };
        git(
            bench.dir.path(),
            &["init", "-q", "--bare", "-b", "main", "remote.git"],
        );
        bench
    }

    fn remote(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    fn rig_dir(&self) -> PathBuf {
        self.dir.path().join("rig")
    }

    fn bare(&self) -> PathBuf {
        self.rig_dir().join("repo.git")
    }

    fn url(&self) -> GitUrl {
        GitUrl::parse(self.remote().to_str().unwrap()).unwrap()
    }

    fn repository(&self) -> Repository {
        Repositories::default().open(self.rig_dir(), self.url(), "main".into())
    }

    /// One more commit on a branch of the remote.
    fn push(&self, branch: &str, file: &str, text: &str) -> String {
        let work = self.dir.path().join("pusher");
        if !work.exists() {
            git(self.dir.path(), &["init", "-q", "-b", branch, "pusher"]);
        }
        git(&work, &["checkout", "-q", "-B", branch]);
        fs::write(work.join(file), text).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "a change"]);
        git(
            &work,
            &["push", "-q", self.remote().to_str().unwrap(), branch],
        );
        git(&work, &["rev-parse", "HEAD"])
    }

    fn ref_sha(&self, name: &str) -> String {
        git(&self.bare(), &["rev-parse", "--verify", name])
    }

    fn refs(&self, below: &str) -> Vec<String> {
        let text = git(
            &self.bare(),
            &["for-each-ref", "--format=%(refname)", below],
        );
        text.lines().map(str::to_owned).collect()
    }

    fn file_at(&self, commit: &str, file: &str) -> String {
        git(&self.bare(), &["show", &format!("{commit}:{file}")])
    }
}

/// Runs git as an agent would and returns what it printed.
fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.invalid",
        ])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

fn dispatch(bead: &str, no: u64) -> DispatchId {
    DispatchId {
        bead: BeadId::new(bead).unwrap(),
        no,
    }
}

fn order(bead: &str, no: u64) -> Prepare {
    Prepare {
        agent_slug: "ada".into(),
        branch: format!("gt/ada/{bead}"),
        base_branch: None,
        dispatch: dispatch(bead, no),
    }
}

fn commit(worktree: &Worktree, file: &str) -> String {
    fs::write(worktree.path.join(file), file).unwrap();
    git(&worktree.path, &["add", "-A"]);
    git(&worktree.path, &["commit", "-q", "-m", "work"]);
    git(&worktree.path, &["rev-parse", "HEAD"])
}

fn branch_of(worktree: &Worktree) -> String {
    git(&worktree.path, &["symbolic-ref", "--short", "HEAD"])
}

fn make_old(file: &Path) {
    let file = fs::File::options().append(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1))
        .unwrap();
}

#[tokio::test]
async fn a_remote_is_judged_without_a_clone() {
    let bench = Bench::new();
    check_remote(&bench.url(), "main").await.unwrap();

    let failure = check_remote(&bench.url(), "trunk").await.unwrap_err();
    assert_eq!(
        (failure.class, failure.stage),
        (Class::Git, Stage::Preflight)
    );
    assert!(
        failure.text.contains("no branch trunk (it has main)"),
        "{}",
        failure.text
    );

    let empty = Bench::empty();
    let failure = check_remote(&empty.url(), "main").await.unwrap_err();
    assert!(failure.text.contains("no commit yet"), "{}", failure.text);

    for (dir, said) in [
        ("missing", "not a directory"),
        ("plain", "not appear to be a git"),
    ] {
        fs::create_dir_all(bench.dir.path().join("plain")).unwrap();
        let path = bench.dir.path().join(dir);
        let url = GitUrl::parse(path.to_str().unwrap()).unwrap();
        let failure = check_remote(&url, "main").await.unwrap_err();
        assert_eq!(failure.class, Class::Git);
        assert!(failure.text.contains(said), "{}", failure.text);
    }

    let url = GitUrl::parse("http://127.0.0.1:1/p.git").unwrap();
    let failure = check_remote(&url, "main").await.unwrap_err();
    assert!(
        failure.text.contains("check the rig's git URL"),
        "{}",
        failure.text
    );
    let failure = check_remote(&bench.url(), "--upload-pack=x")
        .await
        .unwrap_err();
    assert!(
        failure.text.contains("no name of a branch"),
        "{}",
        failure.text
    );
}

#[tokio::test]
async fn a_failure_names_at_most_five_branches() {
    let bench = Bench::new();
    for no in 0..7 {
        git(&bench.remote(), &["branch", &format!("b{no}"), "main"]);
    }
    let failure = check_remote(&bench.url(), "x").await.unwrap_err();
    assert!(
        failure.text.contains("(it has b0, b1, b2, b3, b4, …)"),
        "{}",
        failure.text
    );
}

#[tokio::test]
async fn a_new_branch_starts_where_the_remote_stands() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 1)).await.unwrap();
    assert_eq!(first.path, bench.rig_dir().join("worktrees/ada"));
    assert_eq!(branch_of(&first), "gt/ada/b1");
    assert_eq!(first.base_sha, first.start_sha);
    assert_eq!(
        fs::read_to_string(first.path.join("readme")).unwrap(),
        "first\n"
    );
    assert_eq!(first.outcome_work(true).await.unwrap(), Work::None);

    let newer = bench.push("main", "readme", "second\n");
    let second = repository.prepare(&order("b2", 1)).await.unwrap();
    assert_eq!(second.base_sha, newer);
    assert_eq!(bench.refs("refs/wellhead/saved"), Vec::<String>::new());
}

#[tokio::test]
async fn commits_saved_trees_and_earlier_work_are_told_apart() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    let sha = commit(&worktree, "work");
    assert_eq!(
        worktree.outcome_work(false).await.unwrap(),
        Work::Commit { sha: sha.clone() }
    );

    let worktree = repository.prepare(&order("b1", 2)).await.unwrap();
    assert_eq!(worktree.start_sha, sha);
    assert_ne!(worktree.base_sha, sha);
    assert_eq!(
        worktree.outcome_work(true).await.unwrap(),
        Work::Earlier { sha: sha.clone() }
    );

    fs::write(worktree.path.join("untracked"), "new").unwrap();
    assert!(worktree.state().await.unwrap().dirty);
    // Not completed: nothing is committed, nothing is taken away.
    assert_eq!(
        worktree.outcome_work(false).await.unwrap(),
        Work::Earlier { sha: sha.clone() }
    );
    assert!(worktree.path.join("untracked").exists());

    let Work::Saved { sha: saved } = worktree.outcome_work(true).await.unwrap() else {
        panic!("not saved")
    };
    assert_eq!(bench.ref_sha("refs/heads/gt/ada/b1"), saved);
    assert_eq!(bench.file_at(&saved, "untracked"), "new");
    let who = git(
        &bench.bare(),
        &["log", "-1", "--format=%an <%ae> %cn <%ce>", &saved],
    );
    let name = "Wellhead agent <agents@wellhead.invalid>";
    assert_eq!(who, format!("{name} {name}"));
    assert!(
        !worktree.state().await.unwrap().dirty,
        "the index has followed"
    );
}

#[tokio::test]
async fn ignored_files_are_no_work() {
    let bench = Bench::new();
    bench.push("main", ".gitignore", "target/\n");
    let worktree = bench.repository().prepare(&order("b1", 1)).await.unwrap();
    fs::create_dir(worktree.path.join("target")).unwrap();
    fs::write(worktree.path.join("target/big"), "x").unwrap();
    assert_eq!(worktree.outcome_work(true).await.unwrap(), Work::None);
}

#[tokio::test]
async fn the_work_of_another_branch_is_saved_before_it_goes() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 3)).await.unwrap();
    fs::write(first.path.join("readme"), "changed\n").unwrap();
    fs::write(first.path.join("untracked"), "new").unwrap();

    let second = repository.prepare(&order("b2", 1)).await.unwrap();
    assert_eq!(branch_of(&second), "gt/ada/b2");
    assert_eq!(
        fs::read_to_string(second.path.join("readme")).unwrap(),
        "first\n"
    );
    assert!(!second.path.join("untracked").exists());
    assert_eq!(
        bench.refs("refs/wellhead/saved"),
        ["refs/wellhead/saved/b1/3"]
    );
    assert_eq!(
        bench.file_at("refs/wellhead/saved/b1/3", "readme"),
        "changed"
    );
    assert_eq!(
        bench.file_at("refs/wellhead/saved/b1/3", "untracked"),
        "new"
    );
}

#[tokio::test]
async fn the_same_branch_is_gone_on_with_as_it_lies() {
    let bench = Bench::new();
    let first = bench.repository().prepare(&order("b1", 1)).await.unwrap();
    let sha = commit(&first, "done");
    fs::write(first.path.join("half"), "half").unwrap();
    // Another life of the process.
    let second = bench.repository().prepare(&order("b1", 2)).await.unwrap();
    assert_eq!(second.start_sha, sha);
    assert_eq!(second.base_sha, first.base_sha);
    assert_eq!(
        fs::read_to_string(second.path.join("half")).unwrap(),
        "half"
    );
}

#[tokio::test]
async fn a_charged_failure_saves_and_resets_and_never_overwrites() {
    let bench = Bench::new();
    let worktree = bench.repository().prepare(&order("b1", 1)).await.unwrap();
    let name = saved_ref(&dispatch("b1", 1));
    for text in ["one", "two"] {
        fs::write(worktree.path.join("try"), text).unwrap();
        fs::remove_file(worktree.path.join("readme")).unwrap();
        let saved = worktree.save_and_reset(&name).await.unwrap().unwrap();
        assert_eq!(bench.file_at(&saved, "try"), text);
        assert!(!worktree.path.join("try").exists());
        assert!(worktree.path.join("readme").exists());
    }
    assert_eq!(
        bench.refs("refs/wellhead/saved"),
        [name.clone(), format!("{name}-2")]
    );
    assert_eq!(worktree.save_and_reset(&name).await.unwrap(), None);
    assert_eq!(worktree.outcome_work(false).await.unwrap(), Work::None);
}

#[tokio::test]
async fn a_branch_of_another_agent_is_continued_with_its_base() {
    let bench = Bench::new();
    let repository = bench.repository();
    let ada = repository.prepare(&order("b1", 1)).await.unwrap();
    let sha = commit(&ada, "work");
    let request = Prepare {
        agent_slug: "bob".into(),
        branch: "gt/bob/b1".into(),
        base_branch: Some("gt/ada/b1".into()),
        dispatch: dispatch("b1", 2),
    };
    let bob = repository.prepare(&request).await.unwrap();
    assert_eq!(bob.start_sha, sha);
    assert_eq!(bob.base_sha, ada.base_sha);
    assert_eq!(bob.outcome_work(true).await.unwrap(), Work::Earlier { sha });

    // A branch that nobody has does not stop the work.
    let lost = Prepare {
        agent_slug: "eve".into(),
        branch: "gt/eve/b1".into(),
        base_branch: Some("--no/such branch".into()),
        dispatch: dispatch("b1", 3),
    };
    let eve = repository.prepare(&lost).await.unwrap();
    assert_eq!(eve.start_sha, ada.base_sha);
}

#[tokio::test]
async fn a_switched_head_is_brought_back_to_the_branch() {
    for switch in [
        &["checkout", "-q", "-b", "my-fix"][..],
        &["checkout", "-q", "--detach"],
    ] {
        let bench = Bench::new();
        let repository = bench.repository();
        let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
        git(&worktree.path, switch);
        let sha = commit(&worktree, "work");
        assert_eq!(worktree.state().await.unwrap().head, sha);
        fs::write(worktree.path.join("more"), "more").unwrap();
        assert_eq!(
            worktree.outcome_work(true).await.unwrap(),
            Work::Commit { sha: sha.clone() }
        );
        assert_eq!(bench.ref_sha("refs/heads/gt/ada/b1"), sha);
        assert_eq!(branch_of(&worktree), "gt/ada/b1");
        assert!(worktree.path.join("more").exists());
    }
}

#[tokio::test]
async fn commits_of_a_lost_dispatch_are_not_the_next_one_s() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 1)).await.unwrap();
    git(&first.path, &["checkout", "-q", "--detach"]);
    let sha = commit(&first, "work");
    let second = repository.prepare(&order("b1", 2)).await.unwrap();
    assert_eq!(branch_of(&second), "gt/ada/b1");
    assert_eq!(
        second.outcome_work(true).await.unwrap(),
        Work::Earlier { sha }
    );
}

#[tokio::test]
async fn a_head_of_another_history_is_kept_by_a_ref() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 1)).await.unwrap();
    let earlier = commit(&first, "earlier");
    let worktree = repository.prepare(&order("b1", 2)).await.unwrap();
    git(
        &worktree.path,
        &["checkout", "-q", "--detach", "refs/remotes/origin/main"],
    );
    let stray = commit(&worktree, "stray");
    fs::write(worktree.path.join("loose"), "loose").unwrap();

    assert_eq!(
        worktree.outcome_work(true).await.unwrap(),
        Work::Earlier {
            sha: earlier.clone()
        }
    );
    assert_eq!(bench.ref_sha("refs/wellhead/saved/b1/2-head"), stray);
    assert_eq!(bench.file_at("refs/wellhead/saved/b1/2", "loose"), "loose");
    assert_eq!(bench.ref_sha("refs/heads/gt/ada/b1"), earlier);
    // The next one starts on the branch, whatever was checked out.
    let next = repository.prepare(&order("b1", 3)).await.unwrap();
    assert_eq!(branch_of(&next), "gt/ada/b1");
    assert!(next.path.join("earlier").exists() && !next.path.join("stray").exists());
}

#[tokio::test]
async fn dropped_commits_and_deleted_branches_are_kept() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 1)).await.unwrap();
    let sha = commit(&first, "work");
    let worktree = repository.prepare(&order("b1", 2)).await.unwrap();
    git(
        &worktree.path,
        &["reset", "-q", "--hard", &worktree.base_sha],
    );
    git(
        &worktree.path,
        &["reflog", "expire", "--expire=now", "--all"],
    );
    git(&worktree.path, &["gc", "-q", "--prune=now"]);
    assert_eq!(worktree.outcome_work(true).await.unwrap(), Work::None);
    assert_eq!(bench.ref_sha("refs/wellhead/saved/b1/2-start"), sha);

    git(&worktree.path, &["checkout", "-q", "--detach"]);
    git(&worktree.path, &["branch", "-q", "-D", "gt/ada/b1"]);
    let next = repository.prepare(&order("b1", 3)).await.unwrap();
    assert_eq!(branch_of(&next), "gt/ada/b1");
}

#[tokio::test]
async fn a_rebase_under_way_is_left_and_its_work_kept() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    fs::write(worktree.path.join("readme"), "ours\n").unwrap();
    let ours = commit(&worktree, "ours");
    bench.push("main", "readme", "theirs\n");
    git(&worktree.path, &["fetch", "-q", "origin"]);
    let rebase = Command::new("git")
        .args([
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@b.invalid",
            "rebase",
            "origin/main",
        ])
        .current_dir(&worktree.path)
        .output()
        .unwrap();
    assert!(!rebase.status.success(), "a conflict was expected");

    let saved = worktree
        .save_and_reset(&saved_ref(&dispatch("b1", 1)))
        .await
        .unwrap()
        .unwrap();
    assert!(bench.file_at(&saved, "readme").contains("<<<<<<<"));
    assert_eq!(branch_of(&worktree), "gt/ada/b1");
    assert_eq!(
        worktree.outcome_work(false).await.unwrap(),
        Work::Commit { sha: ours }
    );
    assert!(!worktree.state().await.unwrap().dirty);
    let status = git(&worktree.path, &["status"]);
    assert!(
        status.contains("nothing to commit") && !status.contains("rebas"),
        "{status}"
    );
}

#[tokio::test]
async fn hooks_filters_of_templates_and_monitors_do_not_run() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    let trap = bench.dir.path().join("trap");
    let script = format!("#!/bin/sh\necho ran >> {}\nexit 1\n", trap.display());
    let hooks = bench.bare().join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    let names = [
        "pre-commit",
        "post-checkout",
        "reference-transaction",
        "post-index-change",
    ];
    for name in names {
        let hook = hooks.join(name);
        fs::write(&hook, &script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    git(
        &bench.bare(),
        &[
            "config",
            "core.fsmonitor",
            hooks.join("pre-commit").to_str().unwrap(),
        ],
    );
    git(&bench.bare(), &["config", "commit.gpgSign", "true"]);

    fs::write(worktree.path.join("file"), "x").unwrap();
    assert!(matches!(
        worktree.outcome_work(true).await.unwrap(),
        Work::Saved { .. }
    ));
    fs::write(worktree.path.join("file"), "y").unwrap();
    repository.prepare(&order("b2", 1)).await.unwrap();
    assert!(!trap.exists(), "{}", fs::read_to_string(&trap).unwrap());
}

#[tokio::test]
async fn a_half_clone_is_never_used() {
    let bench = Bench::new();
    let staging = bench.rig_dir().join(".repo.git.staging");
    fs::create_dir_all(staging.join("objects")).unwrap();
    fs::write(staging.join("HEAD"), "ref: refs/heads/x\n").unwrap();
    bench.repository().prepare(&order("b1", 1)).await.unwrap();
    assert!(!staging.exists());

    // A clone that fails leaves nothing that looks like one.
    let empty = Bench::empty();
    let failure = empty
        .repository()
        .prepare(&order("b1", 1))
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::Git);
    assert!(!empty.bare().exists());
    empty.push("main", "readme", "first\n");
    empty.repository().prepare(&order("b1", 1)).await.unwrap();
}

#[tokio::test]
async fn a_worktree_that_is_gone_or_broken_is_healed() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    let sha = commit(&worktree, "work");

    fs::remove_dir_all(&worktree.path).unwrap();
    let again = repository.prepare(&order("b1", 2)).await.unwrap();
    assert_eq!(again.start_sha, sha);
    assert!(again.path.join("work").exists());

    fs::write(again.path.join("loose"), "loose").unwrap();
    fs::remove_file(again.path.join(".git")).unwrap();
    let repaired = repository.prepare(&order("b1", 3)).await.unwrap();
    assert!(repaired.path.join("loose").exists(), "repaired in place");

    // git dies in the middle of making one: registered, locked, nothing there.
    fs::remove_dir_all(&repaired.path).unwrap();
    fs::write(bench.bare().join("worktrees/ada/locked"), "initializing").unwrap();
    repository.prepare(&order("b1", 4)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_ours_is_moved_aside() {
    let bench = Bench::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "p").unwrap();
    let place = bench.rig_dir().join("worktrees/ada");
    let aside = |no: u32| bench.rig_dir().join(format!("worktrees/.aside-{no}"));

    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("letter"), "dear").unwrap();
    bench.repository().prepare(&order("b1", 1)).await.unwrap();
    assert_eq!(fs::read_to_string(aside(1).join("letter")).unwrap(), "dear");

    fs::remove_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(outside.path(), &place).unwrap();
    let worktree = bench.repository().prepare(&order("b1", 2)).await.unwrap();
    assert!(aside(2).is_symlink());
    assert!(outside.path().join("precious").exists());

    // A repository of its own is not reset, neither now nor while the dispatch ends.
    fs::remove_dir_all(&worktree.path).unwrap();
    git(
        bench.dir.path(),
        &["clone", "-q", bench.remote().to_str().unwrap(), "own"],
    );
    fs::rename(bench.dir.path().join("own"), &worktree.path).unwrap();
    fs::write(worktree.path.join("readme"), "mine\n").unwrap();
    let failure = worktree
        .save_and_reset("refs/wellhead/saved/x/1")
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class, failure.stage),
        (Class::AgentFailed, Stage::End)
    );
    bench.repository().prepare(&order("b1", 3)).await.unwrap();
    assert_eq!(
        fs::read_to_string(aside(3).join("readme")).unwrap(),
        "mine\n"
    );
}

#[tokio::test]
async fn a_broken_worktree_does_not_reach_the_repository_around_it() {
    // The data directory lies in a person's own repository, which is dirty.
    let bench = Bench::new();
    git(bench.dir.path(), &["init", "-q", "."]);
    let mine = bench.dir.path().join("mine");
    fs::write(&mine, "uncommitted").unwrap();
    let worktree = bench.repository().prepare(&order("b1", 1)).await.unwrap();
    fs::remove_file(worktree.path.join(".git")).unwrap();
    assert!(
        worktree
            .save_and_reset("refs/wellhead/saved/b1/1")
            .await
            .is_err()
    );
    assert_eq!(fs::read_to_string(mine).unwrap(), "uncommitted");
}

#[tokio::test]
async fn an_unfinished_checkout_is_not_taken_for_work() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    // As after a crash before the checkout was through.
    fs::remove_file(bench.bare().join("worktrees/ada/wellhead.json")).unwrap();
    fs::remove_file(worktree.path.join("readme")).unwrap();
    let again = repository.prepare(&order("b1", 2)).await.unwrap();
    assert!(again.path.join("readme").exists());
    assert_eq!(again.outcome_work(true).await.unwrap(), Work::None);
    assert_eq!(
        bench.refs("refs/wellhead/saved"),
        ["refs/wellhead/saved/b1/2-found"]
    );
}

#[tokio::test]
async fn the_lock_of_a_dead_git_is_removed_and_a_live_one_is_not() {
    let bench = Bench::new();
    let repository = bench.repository();
    let worktree = repository.prepare(&order("b1", 1)).await.unwrap();
    let lock = bench.bare().join("worktrees/ada/index.lock");
    fs::write(&lock, "").unwrap();
    make_old(&lock);
    let packed = bench.bare().join("packed-refs.lock");
    fs::write(&packed, "").unwrap();
    make_old(&packed);
    let worktree = repository
        .prepare(&order("b1", 2))
        .await
        .map(|_| worktree)
        .unwrap();
    assert!(!lock.exists() && !packed.exists());

    // A git that lives: some process of that name in the worktree.
    fs::write(&lock, "").unwrap();
    make_old(&lock);
    let mut alive = Command::new("git")
        .args(["cat-file", "--batch"])
        .current_dir(&worktree.path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let failure = worktree
        .save_and_reset("refs/wellhead/saved/b1/1")
        .await
        .unwrap_err();
    assert!(failure.text.contains("index.lock"), "{}", failure.text);
    assert!(lock.exists());
    drop(alive.stdin.take());
    alive.wait().unwrap();
    worktree
        .save_and_reset("refs/wellhead/saved/b1/1")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_changed_url_is_followed() {
    let (bench, other) = (Bench::new(), Bench::new());
    bench.repository().prepare(&order("b1", 1)).await.unwrap();
    let moved = other.push("main", "readme", "elsewhere\n");
    let repositories = Repositories::default();
    let repository = repositories.open(bench.rig_dir(), other.url(), "main".into());
    let worktree = repository.prepare(&order("b2", 1)).await.unwrap();
    assert_eq!(worktree.base_sha, moved);
}

#[tokio::test]
async fn hostile_names_are_refused_before_git_sees_them() {
    let bench = Bench::new();
    let repository = bench.repository();
    for (slug, branch) in [
        ("../x", "gt/x/b"),
        ("-x", "gt/x/b"),
        (".aside-1", "gt/x/b"),
        ("a/b", "gt/x/b"),
        ("ada", "-x"),
        ("ada", "../x"),
        ("ada", "gt/..//x"),
        ("ada", "a b"),
        ("ada", "x.lock"),
    ] {
        let request = Prepare {
            agent_slug: slug.into(),
            branch: branch.into(),
            ..order("b1", 1)
        };
        let failure = repository.prepare(&request).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.stage),
            (Class::AgentFailed, Stage::Worktree)
        );
        assert!(failure.text.contains("use "), "{}", failure.text);
    }
    assert!(!bench.rig_dir().exists());
}

#[tokio::test]
async fn two_at_once_do_not_disturb_each_other() {
    let bench = Bench::new();
    let repositories = Repositories::default();
    let open = || repositories.open(bench.rig_dir(), bench.url(), "main".into());
    let (first, second) = (open(), open());
    assert!(std::sync::Arc::ptr_eq(&first.lock, &second.lock));
    let bob = Prepare {
        agent_slug: "bob".into(),
        branch: "gt/bob/b2".into(),
        ..order("b2", 1)
    };
    let ada = order("b1", 1);
    let (ada, bob) = tokio::join!(first.prepare(&ada), second.prepare(&bob));
    let (ada, bob) = (ada.unwrap(), bob.unwrap());
    fs::write(ada.path.join("a"), "a").unwrap();
    fs::write(bob.path.join("b"), "b").unwrap();
    let (ada, bob) = tokio::join!(ada.outcome_work(true), bob.outcome_work(true));
    assert!(ada.unwrap().is_fresh() && bob.unwrap().is_fresh());
}

#[tokio::test]
async fn earlier_work_is_listed_for_whoever_goes_on() {
    let bench = Bench::new();
    let repository = bench.repository();
    let first = repository.prepare(&order("b1", 1)).await.unwrap();
    assert!(first.progress().await.unwrap().is_none());
    commit(&first, "work");
    fs::write(first.path.join("half-done"), "half").unwrap();

    let progress = repository
        .prepare(&order("b1", 2))
        .await
        .unwrap()
        .progress()
        .await
        .unwrap();
    let (commits, changes) = (progress.commits, progress.changes);
    assert_eq!((commits.total, changes.total), (1, 1));
    assert!(commits.lines[0].ends_with("work"), "{commits:?}");
    assert_eq!(changes.lines, ["?? half-done"]);
}
