//! Where things are kept when nobody says it.

use std::{
    env,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The named directory made absolute, or the default one, whose parents are made if need be.
pub(super) fn chosen(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        return std::path::absolute(named)
            .map_err(|error| format!("--data-dir {}: {error}", named.display()));
    }
    let variable = |name| env::var_os(name).map(PathBuf::from);
    let dir = default_dir(variable("XDG_DATA_HOME"), variable("HOME"))?;
    if let Some(parent) = dir.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|error| format!("cannot make {}: {error}", parent.display()))?;
    }
    Ok(dir)
}

/// `$XDG_DATA_HOME/wellhead`, else `~/.local/share/wellhead`. A relative variable does not count,
/// as the XDG rules say.
fn default_dir(
    xdg_data_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf, &'static str> {
    let absolute = |path: &PathBuf| path.is_absolute();
    xdg_data_home
        .filter(absolute)
        .or_else(|| home.filter(absolute).map(|home| home.join(".local/share")))
        .map(|base| base.join("wellhead"))
        .ok_or("neither XDG_DATA_HOME nor HOME is set; name a directory with --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_follows_xdg() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(
            default_dir(path("/x"), path("/h")),
            Ok(PathBuf::from("/x/wellhead"))
        );
        let in_home = Ok(PathBuf::from("/h/.local/share/wellhead"));
        assert_eq!(default_dir(None, path("/h")), in_home);
        assert_eq!(default_dir(path("relative"), path("/h")), in_home);
        assert!(default_dir(None, None).is_err());
    }
}
