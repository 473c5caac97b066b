//! Settings: flag, then environment, then file, then default; each value knows where it came from.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk::{self, DiskError};

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML, or has a key that does not exist.
    #[error("the configuration file {} is not understood: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        why: String,
    },
    /// The file cannot be read.
    #[error("the configuration file is not readable")]
    Unreadable(#[source] DiskError),
    /// A value out of range.
    #[error("setting `{key}` ({origin}): expected {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Where the value came from.
        origin: Origin,
        /// What it takes.
        expected: &'static str,
    },
    /// Neither a home nor a platform folder is known.
    #[error("no folder for data: set --home or HALLMARK_HOME")]
    NoHome,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// Nobody set it.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub origin: Origin,
}

/// What the command line says, where it says something.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--home`.
    pub home: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--memory-mib`.
    pub memory_mib: Option<usize>,
    /// `--time-limit`.
    pub time_limit: Option<u64>,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The configuration file, there or not.
    pub file: Option<PathBuf>,
    /// The folder for models, receipts, keys and pins.
    pub home: Setting<PathBuf>,
    /// The policy that `verify` uses when none is named.
    pub policy: Setting<String>,
    /// Threads of a run.
    pub threads: Setting<usize>,
    /// Memory of a run, in MiB.
    pub memory_mib: Setting<usize>,
    /// Seconds of a run; 0 is no limit.
    pub time_limit: Setting<u64>,
    /// Seconds to wait for another process that writes to the same home.
    pub lock_wait: Setting<u64>,
}

/// The keys of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    home: Option<PathBuf>,
    policy: Option<String>,
    threads: Option<usize>,
    memory_mib: Option<usize>,
    time_limit: Option<u64>,
    lock_wait: Option<u64>,
}

const MAX_CONFIG: u64 = 1 << 20;

impl Config {
    /// Collects the settings. `env` gives environment variables.
    pub fn load(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let chosen = flags.config.clone().or_else(|| env("HALLMARK_CONFIG").map(PathBuf::from));
        let path = chosen.clone().or_else(|| config_folder(&env).map(|folder| folder.join("config.toml")));
        let file = match &path {
            Some(path) => read_file(path, flags.config.is_some())?,
            None => ConfigFile::default(),
        };
        let number =
            |key: &'static str, flag: Option<u64>, variable: &str, file: Option<u64>, default: u64| {
                if let Some(value) = flag {
                    return Ok(Setting { value, origin: Origin::Flag });
                }
                if let Some(text) = env(variable) {
                    let origin = Origin::Environment;
                    let value = text.parse().map_err(|_| ConfigError::Value {
                        key,
                        origin,
                        expected: "a whole number",
                    })?;
                    return Ok(Setting { value, origin });
                }
                Ok(match file {
                    Some(value) => Setting { value, origin: Origin::File },
                    None => Setting { value: default, origin: Origin::Default },
                })
            };
        let wide = |value: Option<usize>| value.map(|v| v as u64);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(MAX_THREADS);
        let threads = number("threads", wide(flags.threads), "HALLMARK_THREADS", wide(file.threads), cores)?;
        let threads = bounded("threads", threads, 1..=MAX_THREADS, "1 to 256")?;
        let memory =
            number("memory_mib", wide(flags.memory_mib), "HALLMARK_MEMORY_MIB", wide(file.memory_mib), 4096)?;
        let memory_mib = bounded("memory_mib", memory, 1..=(1 << 30), "1 to 2^30 MiB")?;
        Ok(Self {
            home: home(flags, &env, file.home)?,
            policy: text(None, env("HALLMARK_POLICY"), file.policy, "default"),
            threads,
            memory_mib,
            time_limit: number("time_limit", flags.time_limit, "HALLMARK_TIME_LIMIT", file.time_limit, 300)?,
            lock_wait: number("lock_wait", None, "HALLMARK_LOCK_WAIT", file.lock_wait, 10)?,
            file: path,
        })
    }

    /// Name, value and origin of every setting.
    pub fn rows(&self) -> Vec<(&'static str, String, Origin)> {
        vec![
            ("home", self.home.value.display().to_string(), self.home.origin),
            ("policy", self.policy.value.clone(), self.policy.origin),
            ("threads", self.threads.value.to_string(), self.threads.origin),
            ("memory_mib", self.memory_mib.value.to_string(), self.memory_mib.origin),
            ("time_limit", self.time_limit.value.to_string(), self.time_limit.origin),
            ("lock_wait", self.lock_wait.value.to_string(), self.lock_wait.origin),
        ]
    }
}

const MAX_THREADS: u64 = 256;

fn bounded(
    key: &'static str,
    setting: Setting<u64>,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<Setting<usize>, ConfigError> {
    let origin = setting.origin;
    let value = Some(setting.value).filter(|v| range.contains(v)).and_then(|v| usize::try_from(v).ok());
    Ok(Setting { value: value.ok_or(ConfigError::Value { key, origin, expected })?, origin })
}

fn text(flag: Option<String>, env: Option<String>, file: Option<String>, default: &str) -> Setting<String> {
    let found = [(flag, Origin::Flag), (env, Origin::Environment), (file, Origin::File)]
        .into_iter()
        .find_map(|(value, origin)| Some(Setting { value: value?, origin }));
    found.unwrap_or_else(|| Setting { value: default.to_owned(), origin: Origin::Default })
}

fn home(
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<String>,
    file: Option<PathBuf>,
) -> Result<Setting<PathBuf>, ConfigError> {
    let found = [
        (flags.home.clone(), Origin::Flag),
        (env("HALLMARK_HOME").map(PathBuf::from), Origin::Environment),
        (file, Origin::File),
        (data_folder(env), Origin::Default),
    ];
    let found = found.into_iter().find_map(|(value, origin)| Some(Setting { value: value?, origin }));
    found.ok_or(ConfigError::NoHome)
}

fn read_file(path: &Path, must_exist: bool) -> Result<ConfigFile, ConfigError> {
    let bytes = match disk::read(path, MAX_CONFIG) {
        Ok(bytes) => bytes,
        Err(DiskError::Missing { .. }) if !must_exist => return Ok(ConfigFile::default()),
        Err(error) => return Err(ConfigError::Unreadable(error)),
    };
    let wrong = |why: String| ConfigError::File { path: path.to_owned(), why };
    let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))
}

fn under(base: Option<String>, rest: &[&str]) -> Option<PathBuf> {
    let base = PathBuf::from(base?);
    // The XDG specification: a relative path is to be ignored.
    base.is_absolute().then(|| rest.iter().fold(base, |path, part| path.join(part)))
}

/// The platform's folder for a program's data.
fn data_folder(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if cfg!(target_os = "macos") {
        under(env("HOME"), &["Library", "Application Support", "hallmark"])
    } else if cfg!(windows) {
        under(env("LOCALAPPDATA"), &["hallmark"])
    } else {
        under(env("XDG_DATA_HOME"), &["hallmark"])
            .or_else(|| under(env("HOME"), &[".local", "share", "hallmark"]))
    }
}

/// The platform's folder for a program's configuration.
fn config_folder(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if cfg!(target_os = "macos") {
        under(env("HOME"), &["Library", "Application Support", "hallmark"])
    } else if cfg!(windows) {
        under(env("APPDATA"), &["hallmark"])
    } else {
        under(env("XDG_CONFIG_HOME"), &["hallmark"]).or_else(|| under(env("HOME"), &[".config", "hallmark"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "home = '/file'\nthreads = 3\npolicy = 'replay'\n").unwrap();
        let config = path.display().to_string();
        let env = |name: &str| match name {
            "HALLMARK_CONFIG" => Some(config.clone()),
            "HALLMARK_THREADS" => Some("2".to_owned()),
            "HALLMARK_HOME" => Some(String::new()),
            _ => None,
        };
        let load = |flags: &Flags| Config::load(flags, &env).unwrap();
        let got = load(&Flags::default());
        assert_eq!(got.home, Setting { value: "/file".into(), origin: Origin::File });
        assert_eq!(got.threads, Setting { value: 2, origin: Origin::Environment });
        assert_eq!(got.policy, Setting { value: "replay".to_owned(), origin: Origin::File });
        assert_eq!(got.memory_mib.origin, Origin::Default);
        let got = load(&Flags { home: Some("/flag".into()), threads: Some(1), ..Flags::default() });
        assert_eq!((got.home.origin, got.threads.origin), (Origin::Flag, Origin::Flag));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let flags = Flags { home: Some("/h".into()), config: Some(path.clone()), ..Flags::default() };
            Config::load(&flags, &|_| None)
        };
        assert!(matches!(load("thread = 1"), Err(ConfigError::File { .. })));
        assert!(matches!(load("threads = 0"), Err(ConfigError::Value { key: "threads", .. })));
        assert!(load("threads = 4").is_ok());
        let absent = Flags { config: Some("/no/such/file".into()), ..Flags::default() };
        assert!(matches!(Config::load(&absent, &|_| None), Err(ConfigError::Unreadable(_))));
        assert!(matches!(Config::load(&Flags::default(), &|_| None), Err(ConfigError::NoHome)));
    }
}
