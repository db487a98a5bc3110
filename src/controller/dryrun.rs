//! What would happen: for `plugd check`, from declarations and facts alone.
//!
//! With a running controller the facts are its views; without one nothing runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::input::{Declaration, Resolved};
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Program, Spec};
use crate::model::view::ServiceView;
use crate::policy::update;

/// What would become of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    Start,
    /// With the strategy and why.
    Restart(String),
    /// Same process; probes, logging and the like apply live.
    Live,
    Nothing,
    Skip(Reason, String),
    Fail(Reason, String),
    Stop(String),
}

/// What would happen to all of them, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    pub intents: BTreeMap<Name, Intent>,
}

impl Outlook {
    /// `current`: what runs now and the spec it was made from, as the controller tells.
    pub fn of(declared: &[Declaration], current: &BTreeMap<Name, (Arc<ServiceView>, Arc<Spec>)>) -> Outlook {
        let mut intents = BTreeMap::new();
        for declaration in declared {
            let name = &declaration.spec.name;
            intents.insert(name.clone(), intent(declaration, current.get(name)));
        }
        for (name, (view, _)) in current {
            if !intents.contains_key(name) && view.process_running {
                intents.insert(name.clone(), Intent::Stop("its manifest is gone".into()));
            }
        }
        Outlook { intents }
    }

    pub fn count(&self, which: impl Fn(&Intent) -> bool) -> usize {
        self.intents.values().filter(|intent| which(intent)).count()
    }
}

fn intent(declaration: &Declaration, current: Option<&(Arc<ServiceView>, Arc<Spec>)>) -> Intent {
    let spec = &declaration.spec;
    let runs = current.is_some_and(|(view, _)| view.process_running);
    if !spec.enabled {
        return if runs {
            Intent::Stop("`enabled: false`".into())
        } else {
            Intent::Skip(Reason::Disabled, "`enabled: false`".into())
        };
    }
    if let Some((view, _)) = current
        && view.status == Status::Stopped
        && view.reason == Some(Reason::StoppedByOperator)
    {
        return Intent::Skip(Reason::StoppedByOperator, format!("waits for `plugd start {}`", spec.name));
    }
    if let Program::External(address) = &spec.process.program {
        return Intent::Skip(Reason::NotYetSupported, format!("nothing to run here: {address}"));
    }
    match &declaration.program {
        Resolved::Missing { .. } if runs => Intent::Nothing,
        Resolved::Missing { reason, message, .. } if spec.required => Intent::Fail(*reason, message.clone()),
        Resolved::Missing { reason, message, .. } => Intent::Skip(*reason, message.clone()),
        Resolved::Found { .. } => match current {
            Some((_, old)) if runs && old.process_digest != spec.process_digest => {
                Intent::Restart(update::explain(spec))
            }
            Some((_, old)) if runs && old.digest != spec.digest => Intent::Live,
            Some(_) if runs => Intent::Nothing,
            Some((view, old))
                if (view.status == Status::Completed || view.reason == Some(Reason::NextRun))
                    && old.process_digest == spec.process_digest =>
            {
                Intent::Nothing
            }
            Some(_) | None => Intent::Start,
        },
    }
}
