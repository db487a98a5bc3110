//! How a field is described. One description serves four readers: the decoder, the merge of
//! defaults and drop-ins, the JSON Schema and `plugd explain`.

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// Older names that mean the same.
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// As it would be written; `none` where nothing is assumed.
    pub default: &'static str,
    /// YAML of the value.
    pub example: &'static str,
    /// One or two sentences.
    pub text: &'static str,
    pub page: Page,
    /// Its machinery comes later: validated, kept, reported.
    pub later: bool,
    /// The object is nothing without it.
    pub required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    First,
    Advanced,
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// Any scalar, as it is spelt.
    Text,
    /// A scalar with something in it.
    Word,
    /// A scalar, or anything else as compact JSON: free annotations.
    Free,
    /// The name of a service.
    Name,
    /// `NAME` of an environment variable, in lists.
    Path,
    /// A path, or a pattern of paths.
    Glob,
    Bool,
    Int(i64, i64),
    Number(f64, f64),
    Duration,
    /// Bytes.
    Size,
    /// Millicores.
    Cpu,
    /// CamelCase words.
    Enum(&'static [&'static str]),
    Signal,
    /// Octal file mode bits, as they are spelt.
    Umask,
    Regex,
    Cron,
    TimeZone,
    /// Of Linux, or ALL.
    Capability,
    /// An address of this machine, and a port.
    Listen,
    /// A list of words, or one string that is split.
    Command,
    /// A port's number, its name in `ports`, or `$(instance.port)`.
    PortRef,
    /// `name[:group]`.
    User,
    /// Lower-case hex.
    Sha256,
    /// true, false or a list of names.
    BoolOrNames,
    /// A duration; true is 5 m, false is never.
    DurationOrBool,
    List(&'static Kind),
    /// Names of one's own to values; the keys are names of variables where it says so.
    Map(Keys, &'static Kind),
    Object(&'static Object),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Any,
    Variables,
}

#[derive(Debug)]
pub struct Object {
    pub fields: &'static [Field],
    pub short: Short,
    /// Groups of fields of which at most one may be written.
    pub exclusive: &'static [&'static [&'static str]],
}

/// What a scalar in the place of an object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    None,
    /// It is the value of this field; a list too, where that field takes one.
    Field(&'static str),
    /// `tcp`, `/path`, `notify`, `none`.
    Probe,
}

pub const fn field(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    example: &'static str,
    text: &'static str,
) -> Field {
    Field { name, aliases: &[], kind, default, example, text, page: Page::Advanced, later: false, required: false }
}

impl Field {
    pub const fn first(mut self) -> Field {
        self.page = Page::First;
        self
    }

    pub const fn later(mut self) -> Field {
        self.later = true;
        self
    }

    pub const fn required(mut self) -> Field {
        self.required = true;
        self
    }

    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Field {
        self.aliases = aliases;
        self
    }
}

impl Object {
    pub const fn of(fields: &'static [Field]) -> Object {
        Object { fields, short: Short::None, exclusive: &[] }
    }

    pub const fn short(mut self, field: &'static str) -> Object {
        self.short = Short::Field(field);
        self
    }

    pub const fn exclusive(mut self, groups: &'static [&'static [&'static str]]) -> Object {
        self.exclusive = groups;
        self
    }

    /// The field that a key means, and whether the key is its `…Seconds` spelling.
    pub fn field(&self, key: &str) -> Option<(&'static Field, bool)> {
        let named = |name: &str| self.fields.iter().find(|field| field.name == name || field.aliases.contains(&name));
        if let Some(field) = named(key) {
            return Some((field, false));
        }
        let field = named(key.strip_suffix("Seconds")?)?;
        matches!(field.kind, Kind::Duration).then_some((field, true))
    }
}

impl Kind {
    /// The object inside, if it is one or a list or map of one.
    pub fn object(&self) -> Option<&'static Object> {
        match self {
            Kind::Object(object) => Some(object),
            Kind::List(kind) | Kind::Map(_, kind) => kind.object(),
            Kind::Text | Kind::Word | Kind::Free | Kind::Name | Kind::Path | Kind::Bool | Kind::Int(..) => None,
            Kind::Number(..) | Kind::Duration | Kind::Size | Kind::Cpu | Kind::Enum(_) | Kind::Signal => None,
            Kind::Umask | Kind::Regex | Kind::Cron | Kind::TimeZone | Kind::Command | Kind::PortRef | Kind::User => {
                None
            }
            Kind::Sha256 | Kind::BoolOrNames | Kind::DurationOrBool | Kind::Glob => None,
            Kind::Capability | Kind::Listen => None,
        }
    }

    /// What it takes, in words that fit behind "takes".
    pub fn takes(&self) -> String {
        match self {
            Kind::Text | Kind::Word | Kind::Free => "a text".into(),
            Kind::Name => "the name of a service".into(),
            Kind::Path => "a path".into(),
            Kind::Glob => "a path or a pattern such as config/*.toml".into(),
            Kind::Bool => "true or false".into(),
            Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Number(min, max) => format!("a number from {min} to {max}"),
            Kind::Duration => "a duration such as 10s".into(),
            Kind::DurationOrBool => "a duration such as 5m, or true or false".into(),
            Kind::Size => "a size such as 10Mi".into(),
            Kind::Cpu => "processors such as 500m".into(),
            Kind::Enum(words) => format!("one of {}", words.join(", ")),
            Kind::Signal => "a signal such as SIGTERM".into(),
            Kind::Umask => "octal digits such as \"0027\"".into(),
            Kind::Regex => "a regular expression".into(),
            Kind::Cron => "five cron fields such as \"0 3 * * *\"".into(),
            Kind::TimeZone => "a time zone such as Europe/Berlin".into(),
            Kind::Listen => "an address of this machine and a port such as 127.0.0.1:7666".into(),
            Kind::Capability => "a capability such as NET_BIND_SERVICE, or ALL".into(),
            Kind::Command => "a list of words or one line".into(),
            Kind::PortRef => "a port, its name in `ports`, or $(instance.port)".into(),
            Kind::User => "name or name:group".into(),
            Kind::Sha256 => "64 hex digits".into(),
            Kind::BoolOrNames => "true, false or a list of names".into(),
            Kind::List(_) => "a list".into(),
            Kind::Map(..) => "a mapping of names to values".into(),
            Kind::Object(object) => {
                let names: Vec<&str> = object.fields.iter().map(|field| field.name).take(4).collect();
                let more = if object.fields.len() > 4 { " …" } else { "" };
                let mapping = format!("a mapping ({}{more})", names.join(", "));
                let short = match object.short {
                    Short::None => None,
                    Short::Field(name) => object.fields.iter().find(|field| field.name == name).map(|f| f.kind.takes()),
                    Short::Probe => Some("tcp, /path, notify or none".into()),
                };
                short.map_or_else(|| mapping.clone(), |short| format!("{short}, or {mapping}"))
            }
        }
    }
}
