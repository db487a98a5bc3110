//! What must come first, and who goes last.
//!
//! Works on small numbers (a service's place in the table), never recurses (a chain of 1,000 is
//! ordinary), and knows nothing of lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::spec::{Condition, Dependency};

/// What those who depend on a service need to know of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Declared (or still living).
    pub known: bool,
    /// A process of it lives, or it has completed.
    pub started: bool,
    /// It has completed, also.
    pub ready: bool,
    pub completed: bool,
    /// On its way to a first verdict: will become ready, fail, be skipped … by itself.
    pub coming: bool,
    /// It runs on demand and nobody wants it now, or it has just been called: it is not lost, and comes.
    pub asleep: bool,
    /// By what it is judged is not known: nobody can tell whether it is still what it was.
    pub unread: bool,
}

/// Whether the condition holds now.
pub fn holds(condition: Condition, of: &Standing) -> bool {
    match condition {
        Condition::Started => of.started,
        Condition::Ready => of.ready,
        Condition::Completed => of.completed,
    }
}

/// Whether a start may go ahead as far as this dependency goes. An optional one only orders: it is
/// waited for while it is on its way. `all_known`: the first scan is complete, an unknown name is
/// really unknown.
pub fn allows(dependency: &Dependency, of: &Standing, all_known: bool) -> bool {
    holds(dependency.condition, of)
        || (dependency.optional && if of.known { !of.coming && !of.ready } else { all_known })
}

/// The places from which `from` can be reached again, itself included: its strongly connected
/// component. Empty if it is in no cycle.
pub fn component<'a, F, B>(from: u32, forward: F, backward: B) -> BTreeSet<u32>
where
    F: Fn(u32) -> Vec<u32> + 'a,
    B: Fn(u32) -> Vec<u32> + 'a,
{
    let ahead = reach(from, &forward);
    if !ahead.contains(&from) {
        return BTreeSet::new();
    }
    let behind = reach(from, &backward);
    ahead.intersection(&behind).copied().collect()
}

/// All that can be reached from `from` in one step or more.
fn reach(from: u32, edges: &dyn Fn(u32) -> Vec<u32>) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(place) = open.pop() {
        for next in edges(place) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

/// A shortest way from `from` back to itself, `from` first and last.
pub fn cycle(from: u32, within: &BTreeSet<u32>, forward: impl Fn(u32) -> Vec<u32>) -> Vec<u32> {
    let mut came_from: BTreeMap<u32, u32> = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(place) = open.pop_front() {
        for next in forward(place) {
            if next == from {
                let mut path = vec![from, place];
                let mut at = place;
                while at != from {
                    at = came_from[&at];
                    path.push(at);
                }
                path.reverse();
                return path;
            }
            if within.contains(&next) && !came_from.contains_key(&next) {
                came_from.insert(next, place);
                open.push_back(next);
            }
        }
    }
    Vec::new()
}

/// The order of a shutdown: level 0 is what nobody depends on; each level may stop when those
/// before it are gone. `needs[i]` are the places that `i` depends on. Members of a cycle go together,
/// when all outside it that need them have gone.
pub fn stop_levels(needs: &BTreeMap<u32, Vec<u32>>) -> BTreeMap<u32, u32> {
    let mut order = Order::of(needs);
    loop {
        while let Some(place) = order.open.pop_front() {
            order.go(&BTreeSet::from([place]));
        }
        // What remains is a cycle or needed by one.
        match order.rest.first() {
            Some(&place) => {
                let members = uppermost(place, &order.rest, needs);
                order.go(&members);
            }
            None => return order.levels,
        }
    }
}

struct Order<'a> {
    needs: &'a BTreeMap<u32, Vec<u32>>,
    /// How many of those that need a place have not gone.
    dependents: BTreeMap<u32, u32>,
    /// The level of a place as far as it is known.
    levels: BTreeMap<u32, u32>,
    rest: BTreeSet<u32>,
    /// Nobody needs them any more.
    open: VecDeque<u32>,
}

impl Order<'_> {
    fn of(needs: &BTreeMap<u32, Vec<u32>>) -> Order<'_> {
        let mut dependents: BTreeMap<u32, u32> = needs.keys().map(|&place| (place, 0)).collect();
        for dependency in needs.values().flatten() {
            if let Some(count) = dependents.get_mut(dependency) {
                *count += 1;
            }
        }
        let open = dependents.iter().filter(|(_, count)| **count == 0).map(|(&place, _)| place).collect();
        let levels = needs.keys().map(|&place| (place, 0)).collect();
        Order { needs, dependents, levels, rest: needs.keys().copied().collect(), open }
    }

    /// These go, all at once.
    fn go(&mut self, members: &BTreeSet<u32>) {
        let level = members.iter().filter_map(|member| self.levels.get(member)).max().copied().unwrap_or(0);
        for member in members {
            self.rest.remove(member);
            self.levels.insert(*member, level);
        }
        for dependency in members.iter().flat_map(|member| &self.needs[member]) {
            let Some(count) = self.dependents.get_mut(dependency).filter(|_| self.rest.contains(dependency)) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.open.push_back(*dependency);
            }
            let deeper = self.levels.entry(*dependency).or_insert(0);
            *deeper = (*deeper).max(level + 1);
        }
    }
}

/// From `place` up to who needs it, as far as that leads to others: a cycle on which nobody else in
/// `rest` depends.
fn uppermost(place: u32, rest: &BTreeSet<u32>, needs: &BTreeMap<u32, Vec<u32>>) -> BTreeSet<u32> {
    let needed_by = |at: u32| rest.iter().copied().filter(|other| needs[other].contains(&at)).collect::<Vec<_>>();
    let in_rest = |at: u32| needs[&at].iter().copied().filter(|other| rest.contains(other)).collect::<Vec<_>>();
    let mut at = place;
    loop {
        let below = reach(at, &in_rest);
        let above = reach(at, &needed_by);
        match above.iter().find(|above| !below.contains(above)) {
            Some(&higher) => at = higher,
            None if above.is_empty() => return BTreeSet::from([at]),
            None => return above,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &'static [(u32, u32)]) -> (impl Fn(u32) -> Vec<u32>, impl Fn(u32) -> Vec<u32>) {
        (
            move |at| pairs.iter().filter(|(from, _)| *from == at).map(|(_, to)| *to).collect(),
            move |at| pairs.iter().filter(|(_, to)| *to == at).map(|(from, _)| *from).collect(),
        )
    }

    #[test]
    fn a_cycle_is_told_with_its_whole_path_and_the_rest_is_not_in_it() {
        let (forward, backward) = edges(&[(1, 2), (2, 3), (3, 1), (4, 1), (3, 5)]);
        let members = component(1, &forward, &backward);
        assert_eq!(members, BTreeSet::from([1, 2, 3]));
        assert_eq!(cycle(2, &members, &forward), [2, 3, 1, 2]);
        assert!(component(4, &forward, &backward).is_empty());
        assert!(component(5, &forward, &backward).is_empty());
    }

    #[test]
    fn a_service_that_needs_itself_is_a_cycle_of_one() {
        let (forward, backward) = edges(&[(1, 1)]);
        assert_eq!(cycle(1, &component(1, &forward, &backward), &forward), [1, 1]);
    }

    #[test]
    fn stops_go_against_the_dependencies_also_in_a_chain_of_1000() {
        let needs: BTreeMap<u32, Vec<u32>> =
            (0..1000).map(|i| (i, if i == 0 { vec![] } else { vec![i - 1] })).collect();
        let levels = stop_levels(&needs);
        assert_eq!((levels[&999], levels[&0]), (0, 999));
        assert_eq!(stop_levels(&BTreeMap::from([(1, vec![2]), (2, vec![1])])).len(), 2, "a cycle ends too");
    }

    #[test]
    fn what_a_cycle_needs_goes_after_it() {
        let needs = BTreeMap::from([(0, vec![]), (1, vec![0, 2]), (2, vec![1]), (3, vec![2])]);
        let levels = stop_levels(&needs);
        assert!(levels[&3] < levels[&1] && levels[&3] < levels[&2], "{levels:?}");
        assert!(levels[&1] < levels[&0] && levels[&2] < levels[&0], "{levels:?}");
        assert_eq!(levels[&1], levels[&2], "they go together");
    }

    #[test]
    fn an_optional_dependency_only_orders() {
        let name = crate::model::name::Name::parse("db").expect("valid");
        let dependency = Dependency {
            name,
            condition: Condition::Ready,
            optional: true,
            on_loss: crate::model::spec::OnLoss::Ignore,
        };
        let coming = Standing { known: true, coming: true, ..Standing::default() };
        let skipped = Standing { known: true, ..Standing::default() };
        assert!(!allows(&dependency, &coming, true));
        assert!(allows(&dependency, &skipped, true));
        assert!(allows(&dependency, &Standing::default(), true));
        assert!(!allows(&dependency, &Standing::default(), false), "before the first scan nobody is unknown");
    }
}
