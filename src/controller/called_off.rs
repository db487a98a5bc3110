//! A start that was asked for and has not come: it may be called off, and it may be held up.
//!
//! Between the wish and the process lies the preparation, which looks at paths that a manifest names.
//! Where such a path does not answer (a file system whose server is gone), the start waits, says for
//! what, and keeps nobody's place; an edit, a stop or the end of the node take it back.

use super::Controller;
use super::decide::Want;
use super::drive::Step;
use super::life::*;
use super::plan::{Action, Plan};
use super::service::Service;
use crate::model::reason::Reason;
use crate::model::time::Now;

/// A start that is asked for: taken back, once, where it is not wanted (so) any more. The answer comes
/// first in any case.
pub(super) fn call_off(service: &mut Service, at: usize, want: Want, plan: &mut Plan) -> Step {
    let present = service.next().map(|made| made.print);
    let life = service.life_id(at);
    let Life::Starting(starting) = &mut service.instances[at].life else { return Step::Until(None) };
    let wanted = match want {
        Want::Run | Want::Replace => present.is_none_or(|print| print == starting.made.print),
        // Nothing starts before what it waits for.
        Want::Keep | Want::Stop => false,
        Want::Hold => true,
    };
    if !wanted && !starting.called_off {
        starting.called_off = true;
        plan.actions.push(Action::CallOff { life });
    }
    Step::Until(None)
}

impl Controller {
    /// It never began: the try counts as none.
    pub(super) fn called_off(&mut self, service: &mut Service, at: usize) {
        match &service.instances[at].life {
            Life::Starting(starting) if starting.refused.is_none() => {
                service.instances[at].life = Life::Idle;
                service.touched = true;
            }
            Life::Starting(_)
            | Life::Idle
            | Life::Preparing(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => {}
        }
    }

    pub(super) fn held_up(&mut self, service: &mut Service, at: usize, why: Option<String>, now: Now) {
        let held_up = match &mut service.instances[at].life {
            Life::Starting(starting) if starting.refused.is_none() => &mut starting.held_up,
            Life::Preparing(preparing) if preparing.ended.is_none() => &mut preparing.held_up,
            Life::Starting(_)
            | Life::Preparing(_)
            | Life::Idle
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => return,
        };
        service.touched |= *held_up != why;
        let before = std::mem::replace(held_up, why.clone());
        if let (None, Some(why)) = (before, why) {
            let name = service.instance_name(at);
            let message = format!("{name} cannot begin yet: {why}");
            self.record(service, at, Reason::NotAnswering, true, message, now);
        }
    }
}
