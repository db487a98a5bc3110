//! What is told: the view of a service, built when something may have changed and announced when
//! it did; what is to be remembered, likewise.

use std::sync::Arc;

use jiff::Timestamp;

use super::blocked::{self, Found};
use super::explain;
use super::input::{ExitMemory, Memory, Resolved, Told};
use super::life::*;
use super::node::Share;
use super::plan::{Action, Plan};
use super::service::{Gate, Service};
use super::status::{self, Word};
use super::{Config, Controller};
use crate::model::digest::hex;
use crate::model::log_names;
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Pass, Program};
use crate::model::time::Now;
use crate::model::view::*;

impl Controller {
    /// Announces and remembers a service, if there is news.
    pub(super) fn present(&mut self, service: &mut Service, now: Now, plan: &mut Plan) {
        // Of a pending one it depends on others, too, how long it is.
        service.touched |= service.view.as_ref().is_some_and(|view| view.pending != self.is_coming(service));
        // What was told before stays until its manifest is read.
        if !service.touched || service.gate == Gate::Unknown {
            self.recount(service);
            remember(service, plan);
            return;
        }
        // Told in full once the trial is over.
        service.touched = self.is_trying(service, now);
        self.warn_root(service, now);
        let problems = problems(service, now);
        self.tell_new(service, &problems, now);
        keep_times(service, problems, now.wall);
        let ends_for = self.ending.as_ref().and_then(|ending| ending.why.as_deref());
        let word = status::of_service(service, self.ending.is_some(), ends_for);
        let short = (word.status, word.reason);
        if service.view.is_none() {
            service.recalled = service.remembered.as_ref().and_then(|memory| memory.told);
        }
        if service.view.is_none() || service.word != short {
            service.since = since_before(service, short).unwrap_or(now.wall);
            service.word = short;
        }
        service.recalled = service.recalled.filter(|told| is_on_its_way_to(service, *told));
        let mut view = view(service, word, &self.config);
        view.pending = self.is_coming(service) || service.awaits_door();
        // Whether a call would start it is known in a moment; of an edit nothing is told before that.
        let is_new = service.view.as_ref().is_none_or(|told| told.pending);
        let is_tried = service.trial.as_ref().is_some_and(|trial| trial.result.is_none());
        view.pending |= is_new && is_tried && service.waits_for_demand();
        if let Some(told) = service.view.as_ref().filter(|_| self.is_trying(service, now)) {
            // The edit is being tried: what runs is of the version before.
            view.manifest = told.manifest.clone();
        }
        view.turned = Some(Box::new(turned(service.view.as_deref(), &view, now.wall)));
        if service.view.as_deref() != Some(&view) {
            service.view = Some(Arc::new(view));
            plan.actions.push(Action::Announce(service.name.clone()));
        }
        self.recount(service);
        remember(service, plan);
    }

    /// An edit that cannot be carried out is an event, not only a line of the status; so is a log that takes
    /// nothing, and a secret that is none.
    fn tell_new(&mut self, service: &Service, found: &[Found], now: Now) {
        for one in found {
            let Found { reason, message, .. } = one;
            let told = service.problems.iter().any(|old| one.is_known(old));
            let is_event = matches!(
                reason,
                Reason::UpdateBlocked
                    | Reason::ChangesItself
                    | Reason::DependencyNotReady
                    | Reason::LogNotWritten
                    | Reason::SecretReadable
            );
            if !told && is_event {
                self.events.push(super::event_of(service, *reason, true, message.clone(), now));
            }
        }
    }

    fn recount(&mut self, service: &mut Service) {
        let (status, reason) = service.word;
        let desired = service.desired().max(1) as usize;
        let over = service.declared.is_some()
            && !service.instances.is_empty()
            && service.instances.iter().take(desired).all(|instance| instance.life.is_finished())
            && !service.may_be_called();
        let held = match reason {
            Some(Reason::StoppedByOperator | Reason::DependencyLost) => true,
            Some(_) | None => false,
        };
        let share = Share {
            present: service.declared.is_some() || service.rejected.is_some(),
            required: service.required(),
            // One that serves, however badly, is a reason to go on.
            bad: matches!(status, Status::Failed | Status::Unhealthy)
                && !service.instances.iter().any(|i| i.life.is_ready())
                && !service.has_a_future()
                && !service.waits_for_demand(),
            for_good: over,
            aside: matches!(status, Status::Skipped | Status::Stopped),
            over: (over && !held) || service.gate == Gate::Disabled,
            undecided: self.is_coming(service) || service.awaits_door() || service.instances.iter().any(is_unseen),
        };
        self.node.recount(service.share, share);
        service.share = share;
    }

    fn warn_root(&mut self, service: &mut Service, now: Now) {
        let Some(spec) = service.spec() else { return };
        // Of what runs since before this controller, or has ended before it, it was told when that began.
        let before = |instance: &super::service::Instance| match &instance.life {
            Life::Running(running) => {
                running.spawned < self.config.started.mono && service.print() == Some(running.made.print)
            }
            Life::Stopping(stopping) => stopping.known || stopping.spawned < self.config.started.mono,
            Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => false,
        };
        if service.instances.iter().any(before) {
            service.warned_root = true;
            return;
        }
        let runs = match spec.process.program {
            Program::Command(_) | Program::Wrapper(_) | Program::Script(_) => true,
            Program::External(_) => false,
        };
        if self.config.warn_root && service.is_occupied() && runs && spec.process.user.is_none() && !service.warned_root
        {
            service.warned_root = true;
            let message =
                format!("{} runs as root; write `user:` in its manifest to run it as somebody else", service.name);
            self.events.push(super::event_of(service, Reason::RunsAsRoot, true, message, now));
        }
    }
}

/// Since when each condition is as it is: of the first view, as its word.
fn turned(before: Option<&ServiceView>, view: &ServiceView, now: Timestamp) -> Turned {
    match before.and_then(|before| Some((before.turned.as_deref()?, before.conditions()))) {
        Some((turned, was)) => turned.follow(was, view.conditions(), now),
        None => Turned::all(view.since),
    }
}

/// It has ended before this controller, and what it left has not been looked for yet.
fn is_unseen(instance: &super::service::Instance) -> bool {
    match &instance.life {
        Life::Stopping(stopping) => stopping.exit.is_some() && stopping.left.is_none(),
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Running(_)
        | Life::BackOff(_)
        | Life::Finished(_) => false,
    }
}

/// The conditions that are not as they should be, the most telling first.
fn problems(service: &Service, now: Now) -> Vec<Found> {
    let mut problems: Vec<Found> = Vec::new();
    let mut tell = |found: Found| {
        if !problems.iter().any(|known| known.reason == found.reason) {
            problems.push(found);
        }
    };
    let mut add = |reason: Reason, message: String| tell(Found::of(reason, message));
    for instance in &service.instances {
        match &instance.life {
            Life::Running(running) => {
                if let Some(said) = running.checks.said.as_ref().filter(|said| !said.passed)
                    && let Some(reason) = said.fault()
                {
                    add(reason, said.message.clone());
                }
                if let Some(failing) = &running.checks.failing {
                    let passes = running.made.spec.as_ref().and_then(|spec| running.checks.passes(spec));
                    add(Reason::ProbeFailed, passes.map_or_else(|| failing.clone(), explain::passed));
                }
            }
            Life::BackOff(wait) => match wait.kind {
                Setback::NotSpawned(reason) => add(reason, wait.message.clone()),
                Setback::Missing(reason) => add(reason, explain::missing(wait, instance)),
                Setback::Ended => {
                    if let Some((reason, message)) = &instance.blamed {
                        add(*reason, message.clone());
                    }
                }
                Setback::HookFailed | Setback::NeedLost => {}
            },
            Life::Stopping(stopping) if stopping.stuck => add(Reason::StuckKilling, explain::culprit(stopping)),
            Life::Preparing(_) | Life::Starting(_) => {
                if let Some(refused) = &instance.refused {
                    add(refused.reason, refused.message.clone());
                }
            }
            Life::Idle | Life::Stopping(_) | Life::Finished(_) => {}
        }
        if instance.oom_killed {
            let limit = explain::memory_limit(service.rules().map(|spec| &**spec));
            add(Reason::OomKilled, format!("it ran out of memory{limit} and was killed by the kernel"));
        }
        if instance.ends_at_once() {
            add(Reason::EndsAtOnce, format!("it ends with 0 at once: {}", explain::ends_at_once(service)));
        }
        if instance.vitals.is_slow() {
            add(
                Reason::Slow,
                format!("{}/{} answers its checks slower than its siblings", service.name, instance.index),
            );
        }
        if instance.forked {
            add(Reason::Forked, "it forked and left the foreground; run it in the foreground".into());
        }
    }
    if let Some((rejection, _)) = &service.rejected {
        add(rejection.reason, rejection.message.clone());
    }
    let churns = service.churns(now).map(|why| Found::of(Reason::ChangesItself, why));
    let blocked = [blocked::tried(service), blocked::asleep(service), blocked::held_back(service), churns];
    blocked.into_iter().flatten().for_each(&mut tell);
    let mut add = |reason: Reason, message: String| tell(Found::of(reason, message));
    if service.closes_a_circle() && (service.gate != Gate::Cycle || blocked::runs(service)) {
        add(Reason::DependencyCycle, status::cycle(service));
    }
    if status::is_roll_stuck(service) {
        add(Reason::RollStuck, "the new version does not get ready; the old instances stay".into());
    }
    blocked::lacks(service).into_iter().for_each(&mut tell);
    let mut add = |reason: Reason, message: String| tell(Found::of(reason, message));
    if let Some(declaration) = &service.declared {
        for (reason, message) in &declaration.problems {
            add(*reason, message.clone());
        }
        if !declaration.spec.not_yet_supported.is_empty() {
            let fields = declaration.spec.not_yet_supported.join(", ");
            add(Reason::NotYetSupported, format!("this version does not act on: {fields}"));
        }
    }
    service.blocked_at_door().into_iter().for_each(|(reason, message)| add(reason, message));
    let of_logs = service.instances.iter().flat_map(|instance| &instance.log_problems);
    for (&reason, message) in service.edge_problems.iter().chain(of_logs) {
        add(reason, message.clone());
    }
    problems
}

/// Since when a controller before this one told the same word of the same processes.
fn since_before(service: &Service, word: (Status, Option<Reason>)) -> Option<Timestamp> {
    let told = service.recalled?;
    let same = spawned_last(service).is_none_or(|spawned| spawned <= told.since);
    // Which start `starting` was told of is not known.
    (same && word == (told.status, told.reason) && told.status != Status::Starting).then_some(told.since)
}

/// An end that an earlier controller has dealt with is dealt with once more, until it is as it was; that nobody can call
/// it is found out once more.
fn is_on_its_way_to(service: &Service, told: Told) -> bool {
    let ends_anew =
        service.word.0 == Status::Stopping && spawned_last(service).is_some_and(|spawned| spawned <= told.since);
    service.word != (told.status, told.reason) && (ends_anew || service.awaits_door())
}

fn spawned_last(service: &Service) -> Option<Timestamp> {
    let lives = service.instances.iter().filter_map(|instance| match &instance.life {
        Life::Running(running) => Some(running.spawned_wall),
        Life::Stopping(stopping) => Some(stopping.spawned_wall),
        Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => None,
    });
    lives.max()
}

/// A problem keeps its time as long as it lasts; that of a blocked edit also under the next controller.
fn keep_times(service: &mut Service, found: Vec<Found>, now: Timestamp) {
    if service.view.is_none() {
        let told = service.remembered.as_ref().and_then(|memory| Some((memory.generation, memory.told?.blocked?)));
        service.blocked = told;
    }
    let generation = service.generation;
    let is_blocked = found.iter().any(|one| one.reason == Reason::UpdateBlocked);
    // While it is tried again it is told as nothing.
    let lasts = |(of, _): &(u64, Timestamp)| *of == generation && (is_blocked || service.kept.is_some());
    service.blocked = service.blocked.filter(lasts);
    if is_blocked {
        service.blocked.get_or_insert((generation, now));
    }
    let old = std::mem::take(&mut service.problems);
    let blocked = service.blocked.map(|(_, since)| since);
    let since = |reason: Reason| match reason {
        Reason::UpdateBlocked => blocked,
        _ => old.iter().find(|problem| problem.reason == reason).map(|problem| problem.since),
    };
    let problem = |Found { reason, message, cause }| {
        let since = since(reason).unwrap_or(now);
        Problem { reason, message, since, cause }
    };
    service.problems = found.into_iter().map(problem).collect();
}

fn view(service: &Service, word: Word, config: &Config) -> ServiceView {
    let spec = service.spec();
    let desired = service.desired();
    let wanted = || service.instances.iter().take(desired as usize);
    let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    let ready = wanted().filter(|instance| instance.life.is_ready()).count();
    let (serves, ready) = (service.serves(ready), count(ready));
    // Of a job an instance that waits for its next run stands between those that carry one out.
    let told = match service.schedule() {
        Some(_) => count(wanted().filter(|instance| instance.run.is_some()).count()).max(1),
        None => desired,
    };
    let port = spec.and_then(|spec| spec.process.port);
    // Of the process that runs, which may be of an older version.
    let served = service.instances.iter().filter_map(|instance| served_port(&instance.life)).max().unwrap_or(port);
    let running = service.instances.iter().any(|instance| instance.life.pid().is_some());
    let mut running_ones = service.instances.iter().filter_map(|instance| instance.life.running());
    let said = running_ones.find_map(|running| {
        let message = running.checks.said.as_ref()?.message.clone();
        // Its own word of how it is, by `STATUS=`.
        let says = running.says.as_ref().filter(|says| !says.is_empty());
        Some(match says {
            Some(says) => format!("{message}; it says: {says}"),
            None => message,
        })
    });
    let instances = (0..service.instances.len())
        .filter(|&at| at < desired as usize || service.instances[at].life.is_occupied())
        .map(|at| instance_view(service, at, port))
        .collect();
    let tried = match service.declared.as_ref().map(|declaration| &declaration.program) {
        Some(Resolved::Missing { tried, .. }) => tried.clone(),
        Some(Resolved::Found { .. }) | None => Vec::new(),
    };
    let last = service.instances.iter().filter_map(|instance| instance.last_exit.as_ref()).max_by_key(|exit| exit.at);
    ServiceView {
        service: service.name.clone(),
        status: word.status,
        reason: word.reason,
        why: word.why.into_iter().chain(by_hand(service)).collect(),
        next: word.next,
        available: serves || (word.reason == Some(Reason::OnDemand) && !service.awaits_door()),
        process_running: running,
        mesh_registration: false,
        required: service.required(),
        serving: service.health.serving(),
        ready,
        desired: told,
        restarts: service.restarts,
        score: service.health.points(),
        // Before that nobody has been seen there.
        address: served.filter(|_| serves || service.can_be_called()).map(|port| format!("127.0.0.1:{port}")),
        check: said,
        retry_at: word.retry_at,
        last_exit: last.map(exit_view),
        schedule: service.schedule_view(),
        problems: service.problems.clone(),
        tried,
        since: service.since,
        turned: None,
        instances,
        manifest: manifest_view(service),
        kill_scope: config
            .kill_scope
            .filter(|_| has_run(service))
            .map(|word| kill_scope(word, spec.is_some_and(|spec| spec.process.kill_scope_tree))),
        log: log(service, config).filter(|_| has_run(service)),
        log_format: LogFormat::of(service.rules().is_some_and(|spec| spec.logs.json)),
        labels: spec.map(|spec| spec.labels.clone()).unwrap_or_default(),
        capabilities: spec.map(|spec| spec.capabilities.clone()).unwrap_or_default(),
        depends_on: service.rules().map(|spec| super::declare::dependency_names(spec)).unwrap_or_default(),
        lost: match service.gate_of_next() {
            Gate::DependencyLost(dependency) => Name::parse(dependency).ok(),
            Gate::Open
            | Gate::Unknown
            | Gate::Gone
            | Gate::NeverValid
            | Gate::Disabled
            | Gate::StoppedByOperator
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Waiting(_)
            | Gate::Cycle
            | Gate::ShuttingDown => None,
        },
        settled: matches!(word.status, Status::Completed | Status::Stopped)
            || word.reason == Some(Reason::NextRun)
            || service.can_be_called(),
        pending: false,
        unproven: is_unproven(service),
        on_demand: service.may_be_called(),
        runs_to_end: service.rules().is_some_and(|spec| super::decide::runs_to_end(spec)),
    }
}

/// Why as many are wanted as no file says.
fn by_hand(service: &Service) -> Option<String> {
    let (to, rules) = (service.scaled?.to, service.rules()?);
    let is_other = to > 0 && to != rules.replicas && rules.schedule.is_none();
    is_other.then(|| format!("scaled to {to} by hand; its manifest says {}", rules.replicas))
}

/// That a process was executed again is no start of a service in a crash loop, where nothing checks it.
fn is_unproven(service: &Service) -> bool {
    let checked = service.rules().is_some_and(|spec| super::decide::is_checked(spec));
    let wanted = service.instances.iter().take(service.desired() as usize);
    !checked && wanted.into_iter().any(|one| one.life.is_ready() && one.ladder.failed_starts > 0)
}

/// It runs, or did: then there is something to stop, and something to read.
fn has_run(service: &Service) -> bool {
    service.instances.iter().any(|instance| instance.life.is_occupied() || instance.last_exit.is_some())
}

/// How far a stop of this service reaches: a cgroup holds everything, without one it may have a reaper.
fn kill_scope(word: &str, tree: bool) -> String {
    if tree && word == "session" { "tree".into() } else { word.into() }
}

/// The log that a person would look at: the file of one instance, the folder (or the files) of several.
fn log(service: &Service, config: &Config) -> Option<String> {
    let own = service.rules().and_then(|spec| spec.logs.path.as_ref());
    let path = match (own, &config.log_dir) {
        (Some(path), Some(_)) if service.has_several() => log_names::of_all(path),
        (Some(path), Some(_)) => path.clone(),
        (None, Some(dir)) if service.has_several() => dir.join(service.name.log_folder()),
        (None, Some(dir)) => dir.join(format!("{}.log", service.name)),
        (_, None) => return None,
    };
    Some(path.display().to_string())
}

fn instance_view(service: &Service, at: usize, port: Option<u16>) -> InstanceView {
    let instance = &service.instances[at];
    let word = status::of_instance(service, instance);
    let made = instance.life.spec().or(service.spec().map(|spec| &**spec));
    let pass = made.and_then(|spec| spec.process.on_demand);
    let shares = pass == Some(Pass::Socket);
    let started = match &instance.life {
        Life::Running(running) => Some(running.spawned_wall),
        Life::Stopping(stopping) if stopping.exit.is_none() => Some(stopping.spawned_wall),
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Stopping(_)
        | Life::BackOff(_)
        | Life::Finished(_) => None,
    };
    InstanceView {
        name: service.instance_name(at),
        pid: instance.life.pid(),
        // Instance n gets port + n, unless they share its socket; behind a door it has its own only while it runs.
        port: listens_on(&instance.life)
            .unwrap_or_else(|| port.filter(|_| pass != Some(Pass::Proxy)))
            .map(|port| if shares { port } else { port.saturating_add(instance.index as u16) }),
        ready: instance.life.is_ready(),
        restarts: instance.restarts,
        score: instance.vitals.score(),
        status: word.status,
        reason: word.reason,
        started,
    }
}

/// The port that a running process was given, where that is known; one that stops serves nobody.
fn served_port(life: &Life) -> Option<Option<u16>> {
    match life {
        Life::Running(running) => running.made.spec.as_ref().map(|spec| spec.process.port),
        Life::Stopping(_) => Some(None),
        Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => None,
    }
}

/// The same of the one process, which may listen on another port than callers use.
fn listens_on(life: &Life) -> Option<Option<u16>> {
    let private = life.spec().and_then(|spec| spec.process.private_port);
    private.map(Some).or_else(|| served_port(life))
}

pub(super) fn exit_view(exit: &ExitMemory) -> ExitView {
    ExitView {
        code: exit.code.or(exit.signal.map(|signal| 128 + signal)),
        signal: exit.signal.map(crate::model::signal::name),
        reason: exit.oom_killed.then_some(Reason::OomKilled),
        by: exit.by.clone(),
        at: Timestamp::from_microsecond(exit.at).unwrap_or(Timestamp::UNIX_EPOCH),
        ran_for: exit.ran_for,
        output: exit.output.clone(),
    }
}

fn manifest_view(service: &Service) -> ManifestView {
    let rejected = service.rejected.as_ref();
    let (file, sha256) = match (&service.declared, rejected) {
        // The file that declared it is gone, and one that is refused has its name now.
        (Some(declaration), Some((rejection, _))) => (rejection.source.file.clone(), declaration.source.sha256.clone()),
        (Some(declaration), _) => (declaration.source.file.clone(), declaration.source.sha256.clone()),
        (None, Some((rejection, _))) => (rejection.source.file.clone(), String::new()),
        // Its manifest is gone: the last one is told until the service is, too.
        (None, None) => match &service.view {
            Some(view) => (view.manifest.file.clone(), view.manifest.sha256.clone()),
            None => (String::new(), String::new()),
        },
    };
    let rejected = rejected.map(|(rejection, at)| RejectedView {
        sha256: rejection.source.sha256.clone(),
        at: *at,
        reason: Some(rejection.reason),
        file: Some(rejection.file.clone()),
    });
    let print = |print: Print| PrintView { process: print.process, content: print.content };
    ManifestView {
        file,
        sha256,
        generation: service.generation,
        in_force: service.in_force(),
        digest: service.declared.as_ref().map(|declaration| declaration.spec.digest),
        declares: service.print().map(print),
        runs: service.runs_all().map(print),
        rejected,
    }
}

/// Says what must outlive the keeper, when it changed.
fn remember(service: &mut Service, plan: &mut Plan) {
    // What people say of it is kept before its manifest is read, too.
    let unread = service.remembered.is_some() || service.stopped || service.scaled.is_some();
    if service.declared.is_none() && service.rejected.is_none() && !unread {
        return;
    }
    let step = service.instances.iter().map(|instance| instance.ladder.step).max().unwrap_or(0);
    let failed_starts = service.instances.iter().map(|instance| instance.ladder.failed_starts).max().unwrap_or(0);
    let last_exit = service.instances.iter().filter_map(|instance| instance.last_exit.as_ref()).max_by_key(|e| e.at);
    let schedule = service.remember_schedule();
    let kept = service.remember_kept();
    let blocked = service.blocked.map(|(_, since)| since);
    let told = service.view.as_ref();
    let told = told.map(|view| Told { status: view.status, reason: view.reason, since: view.since, blocked });
    let told = service.recalled.map(|told| Told { blocked, ..told }).or(told);
    let told = told.or(service.remembered.as_ref().and_then(|memory| memory.told));
    let spent = match (&service.declared, &service.remembered) {
        // What was remembered of lives that may yet be told.
        (None, Some(memory)) => memory.spent.clone(),
        _ => service.instances.iter().filter(|one| one.recent.is_spent()).map(|one| one.index).collect(),
    };
    let awake = match service.declared {
        Some(_) => service.activation().is_some() && service.call.awake,
        // Whether it runs on demand its manifest will tell.
        None => service.remembered.as_ref().is_some_and(|memory| memory.awake),
    };
    if let Some(old) = service.remembered.as_ref().filter(|_| !service.forgotten)
        && (old.generation, old.restarts, old.step, old.failed_starts, old.stopped_by_operator)
            == (service.generation, service.restarts, step, failed_starts, service.stopped)
        && (old.scaled, &old.dependency_lost) == (service.scaled, &service.bereft)
        && old.last_exit.as_ref() == last_exit
        && (&old.lives, &old.spent) == (&service.lives, &spent)
        && old.schedule == schedule
        && old.kept == kept
        && (old.told, old.warned_root, old.awake) == (told, service.warned_root, awake)
    {
        return;
    }
    let memory = Memory {
        generation: service.generation,
        digest: service.digest.map(hex).unwrap_or_default(),
        restarts: service.restarts,
        step,
        failed_starts,
        stopped_by_operator: service.stopped,
        dependency_lost: service.bereft.clone(),
        scaled: service.scaled,
        last_exit: last_exit.cloned(),
        lives: service.lives.clone(),
        spent,
        schedule,
        kept,
        told,
        warned_root: service.warned_root,
        awake,
    };
    (service.remembered, service.forgotten) = (Some(memory.clone()), false);
    plan.actions.push(Action::Remember(service.name.clone(), Box::new(memory)));
}
