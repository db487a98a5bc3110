//! Users and groups by name, as numbers that the keeper can set.
//!
//! Names are looked up through NSS, so that users of LDAP and the like are found; numbers need no
//! entry. A lookup may take as long as the directory service behind it does.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::raw;

/// Longest name that is looked up, in bytes: LOGIN_NAME_MAX of Linux.
const NAME_MAX: usize = 256;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups, `gid` among them.
    pub groups: Vec<u32>,
    /// None for a number without an entry.
    pub name: Option<String>,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// `www-data`, `uid 1000`.
impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("user {0:?} does not exist")]
    NoUser(String),
    #[error("group {0:?} does not exist")]
    NoGroup(String),
    #[error("failed to look up {name:?}")]
    Lookup { name: String, source: io::Error },
}

impl Identity {
    /// `user` is `name`, `name:group` or numbers; `group`, where written, wins over the one in `user`.
    pub fn resolve(user: &str, group: Option<&str>) -> Result<Identity, IdentityError> {
        let (user, joined) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let entry = match number(user) {
            Some(uid) => raw::user_by_id(uid).map_err(|source| lookup(user, source))?,
            None => {
                let name = c_name(user).ok_or_else(|| IdentityError::NoUser(user.into()))?;
                let found = raw::user_by_name(&name).map_err(|source| lookup(user, source))?;
                Some(found.ok_or_else(|| IdentityError::NoUser(user.into()))?)
            }
        };
        let written = group.or(joined).filter(|text| !text.is_empty()).map(gid_of).transpose()?;
        let Some(entry) = entry else {
            let uid = number(user).ok_or_else(|| IdentityError::NoUser(user.into()))?;
            // A number that nobody has: its group is the same number unless one is written, as with Docker's --user.
            let gid = written.unwrap_or(uid);
            let shell = PathBuf::from("/bin/sh");
            return Ok(Identity { uid, gid, groups: vec![gid], name: None, home: "/".into(), shell });
        };
        let gid = written.unwrap_or(entry.gid);
        let groups = raw::groups_of(&entry.name, gid).map_err(|source| lookup(user, source))?;
        let path = |bytes: Vec<u8>, otherwise: &str| match bytes.is_empty() {
            true => PathBuf::from(otherwise),
            false => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
        };
        Ok(Identity {
            uid: entry.uid,
            gid,
            groups,
            name: Some(entry.name.to_string_lossy().into_owned()),
            home: path(entry.home, "/"),
            shell: path(entry.shell, "/bin/sh"),
        })
    }

    /// What a login would set, for a service whose user is not plugd's own.
    pub fn env(&self) -> Vec<(String, String)> {
        let name = self.name.clone().unwrap_or_else(|| self.uid.to_string());
        vec![
            ("HOME".into(), self.home.to_string_lossy().into_owned()),
            ("LOGNAME".into(), name.clone()),
            ("SHELL".into(), self.shell.to_string_lossy().into_owned()),
            ("USER".into(), name),
        ]
    }
}

fn gid_of(group: &str) -> Result<u32, IdentityError> {
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let name = c_name(group).ok_or_else(|| IdentityError::NoGroup(group.into()))?;
    let found = raw::group_by_name(&name).map_err(|source| lookup(group, source))?;
    found.ok_or_else(|| IdentityError::NoGroup(group.into()))
}

/// A number that means an id; the highest one means "leave as it is" to setresuid(2).
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

fn c_name(text: &str) -> Option<CString> {
    let fits = !text.is_empty() && text.len() < NAME_MAX;
    CString::new(text).ok().filter(|_| fits)
}

fn lookup(name: &str, source: io::Error) -> IdentityError {
    IdentityError::Lookup { name: name.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let by_name = Identity::resolve("root", None).expect("root exists");
        let by_number = Identity::resolve("0", None).expect("0 exists");
        assert_eq!(by_name, by_number);
        assert_eq!((by_name.uid, by_name.gid, by_name.home.to_str()), (0, 0, Some("/root")));
        assert!(by_name.env().contains(&("USER".into(), "root".into())));
    }

    #[test]
    fn a_number_without_an_entry_needs_none() {
        let nobody_has_it = Identity::resolve("54321:54322", None).expect("numbers need no entry");
        assert_eq!((nobody_has_it.uid, nobody_has_it.gid), (54321, 54322));
        assert_eq!(nobody_has_it.groups, [54322]);
        assert_eq!(nobody_has_it.name, None);
    }

    #[test]
    fn the_written_group_wins() {
        let identity = Identity::resolve("root:daemon", Some("7")).expect("resolves");
        assert_eq!(identity.gid, 7);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for user in ["", "no-such-user-here", "4294967295", "-1", "a\0b", &"x".repeat(1000), "+0"] {
            assert!(matches!(Identity::resolve(user, None), Err(IdentityError::NoUser(_))), "{user:?}");
        }
        assert!(matches!(Identity::resolve("0:no-such-group", None), Err(IdentityError::NoGroup(_))));
    }
}
