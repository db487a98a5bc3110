//! The words of state: one `status` and one CamelCase `reason`, everywhere the same.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$meta:meta])* $type:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$vmeta])* #[serde(rename = $word)] $variant,)* }

        impl $type {
            /// Every word, in the order of the documentation.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

words! {
    /// What a service is, in one word.
    Status {
        /// Spawned, not ready yet.
        Starting = "starting",
        /// The process lives and nothing checks it.
        Running = "running",
        /// Its check passed.
        Healthy = "healthy",
        /// Some instances are not ready.
        Degraded = "degraded",
        /// Should serve and does not.
        Unhealthy = "unhealthy",
        /// Would run, waits for what `why` names.
        Waiting = "waiting",
        /// Being stopped.
        Stopping = "stopping",
        /// Not meant to run.
        Stopped = "stopped",
        /// Optional and cannot run here.
        Skipped = "skipped",
        /// Cannot run and that is an error.
        Failed = "failed",
        /// Ran to its end, exit 0.
        Completed = "completed",
    }
}

words! {
    /// Why, in one CamelCase word: of a status, of a problem, or of an event.
    Reason {
        // starting
        PortNotOpen = "PortNotOpen",
        ProbeNotPassed = "ProbeNotPassed",
        NotAnswering = "NotAnswering",
        // degraded
        InstanceDown = "InstanceDown",
        RollStuck = "RollStuck",
        Slow = "Slow",
        // unhealthy
        BackOff = "BackOff",
        CrashLoopBackOff = "CrashLoopBackOff",
        ProbeFailed = "ProbeFailed",
        AddressInUse = "AddressInUse",
        OomKilled = "OOMKilled",
        LowScore = "LowScore",
        // waiting
        DependencyNotReady = "DependencyNotReady",
        StartLimit = "StartLimit",
        NextRun = "NextRun",
        OnDemand = "OnDemand",
        // stopping
        StuckKilling = "StuckKilling",
        // stopped
        StoppedByOperator = "StoppedByOperator",
        Disabled = "Disabled",
        ControllerStopped = "ControllerStopped",
        DependencyLost = "DependencyLost",
        // skipped, or failed where required
        WrapperNotFound = "WrapperNotFound",
        NotExecutable = "NotExecutable",
        DependencyMissing = "DependencyMissing",
        SelfcheckFailed = "SelfcheckFailed",
        MissingVariable = "MissingVariable",
        // failed
        ConfigInvalid = "ConfigInvalid",
        RestartLimit = "RestartLimit",
        UntrustedFile = "UntrustedFile",
        NameConflict = "NameConflict",
        DependencyCycle = "DependencyCycle",
        DigestMismatch = "DigestMismatch",
        Error = "Error",
        // why a start failed
        ProgramNotFound = "ProgramNotFound",
        BadInterpreter = "BadInterpreter",
        ExecFormat = "ExecFormat",
        WorkingDirNotFound = "WorkingDirNotFound",
        UserNotFound = "UserNotFound",
        PermissionDenied = "PermissionDenied",
        EnvFileNotFound = "EnvFileNotFound",
        WatchFileNotFound = "WatchFileNotFound",
        SecretNotFound = "SecretNotFound",
        ResourceExhausted = "ResourceExhausted",
        // problems beside a status
        ConfigSuspicious = "ConfigSuspicious",
        UpdateBlocked = "UpdateBlocked",
        StillWriting = "StillWriting",
        DirectoryLost = "DirectoryLost",
        WithoutMemory = "WithoutMemory",
        MemoryLost = "MemoryLost",
        NotYetSupported = "NotYetSupported",
        Unreadable = "Unreadable",
        TooLarge = "TooLarge",
        NotARegularFile = "NotARegularFile",
        NameInvalid = "NameInvalid",
        LogNotWritten = "LogNotWritten",
        LogsDropped = "LogsDropped",
        LimitsNotApplied = "LimitsNotApplied",
        SecretReadable = "SecretReadable",
        StatusNotWritten = "StatusNotWritten",
        PortConflict = "PortConflict",
        Forked = "Forked",
        EndsAtOnce = "EndsAtOnce",
        ChangesItself = "ChangesItself",
        // events
        Declared = "Declared",
        Updated = "Updated",
        Withdrawn = "Withdrawn",
        Spawned = "Spawned",
        Ready = "Ready",
        NotReady = "NotReady",
        Exited = "Exited",
        Killed = "Killed",
        Stopped = "Stopped",
        Completed = "Completed",
        Recovered = "Recovered",
        IdleStopped = "IdleStopped",
        HoldExpired = "HoldExpired",
        FailedPreStopHook = "FailedPreStopHook",
        MissedRun = "MissedRun",
        SkippedRun = "SkippedRun",
        FailedRun = "FailedRun",
        ClockSetBack = "ClockSetBack",
        RunsAsRoot = "RunsAsRoot",
        KeeperLost = "KeeperLost",
        KeeperStopped = "KeeperStopped",
        ControllerRestarted = "ControllerRestarted",
        StartupReport = "StartupReport",
    }
}
