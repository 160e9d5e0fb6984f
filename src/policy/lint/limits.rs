//! Limits that contradict each other or cannot do what they say.
//!
//! How it fails: it does not.

use super::RuleText;
use super::logic::Test;
use crate::policy::limit::{Bound, Counts, Limit};
use crate::policy::outcome::{LimitUse, Outcome};
use crate::policy::program::{FAILS, HOLDS, Relation};
use crate::policy::rules::{Policy, Rule};
use crate::policy::source::Reader;
use crate::policy::stage::Stage;
use std::collections::BTreeMap;
use std::ops::Range;

/// Where limits are named.
struct Use<'p> {
    rule: &'p Rule,
    used: &'p LimitUse,
    limit: &'p Limit,
}

/// Looks at all limits.
pub fn check(reader: &mut Reader<'_>, policy: &Policy, rules: &[RuleText], places: &BTreeMap<String, Range<usize>>) {
    let uses: Vec<Use<'_>> = policy
        .rules()
        .iter()
        .flat_map(|rule| rule.outcomes.iter().map(move |o| (rule, o)))
        .filter_map(|(rule, outcome)| match outcome {
            Outcome::Limit(used) => Some(Use { rule, used, limit: &policy.limits[used.limit] }),
            _ => None,
        })
        .collect();
    let size_max = size_max(policy, rules);
    for (name, place) in places {
        let of: Vec<&Use<'_>> = uses.iter().filter(|u| u.limit.name == *name).collect();
        let Some(first) = of.first() else { continue };
        if let Some(stricter) =
            of.iter().all(|u| stricter(&uses, u).is_some()).then(|| stricter(&uses, first)).flatten()
        {
            let message = format!(
                "`{name}` ({}) is never reached: `{}` ({}) refuses before",
                first.limit.shown, stricter.limit.name, stricter.limit.shown
            );
            let help = "two limits with the same key and stage: keep the stricter one, or give them different keys";
            let finding = reader.at(place.clone(), message).warning().code("limit-never-reached").help(help);
            reader.report(finding);
        }
        if first.limit.counts == Counts::AuthFailure && of.iter().all(|u| u.rule.stage != Stage::Auth) {
            let message = format!("`{name}` never counts anything: no rule at stage auth names it");
            let help = "failures are counted at auth and only looked at elsewhere; add a rule at stage auth";
            let finding = reader.at(place.clone(), message).warning().code("limit-never-counts").help(help);
            reader.report(finding);
        }
        if let (Counts::Octets, Bound::Rate(rate), Some((size, rule))) =
            (first.limit.counts, first.limit.bound, size_max)
            && rate.burst < size
        {
            let message = format!(
                "`{name}` lets at most {} octets pass at once, `{rule}` messages of {size}: the larger ones never pass",
                rate.burst
            );
            let help = "raise `burst` to the largest message, or refuse by size first";
            let finding = reader.at(place.clone(), message).warning().code("limit-below-size").help(help);
            reader.report(finding);
        }
    }
}

/// A use of another limit that refuses whenever this one would.
fn stricter<'a, 'p>(uses: &'a [Use<'p>], this: &Use<'p>) -> Option<&'a Use<'p>> {
    uses.iter().find(|other| {
        let same = other.limit.name != this.limit.name
            && other.rule.stage == this.rule.stage
            && other.limit.counts == this.limit.counts
            && format!("{:?}", other.limit.per) == format!("{:?}", this.limit.per);
        // It is asked whenever this one is, and refuses rather than delays.
        let asked = (other.rule.condition.entry == HOLDS || other.rule.condition.entry == this.rule.condition.entry)
            && (other.used.exempt == FAILS || other.used.exempt == this.used.exempt)
            && !matches!(*other.used.otherwise, Outcome::Tarpit(_));
        let tight = match (other.limit.bound, this.limit.bound) {
            (Bound::AtOnce(a), Bound::AtOnce(b)) => a <= b,
            (Bound::Rate(a), Bound::Rate(b)) => {
                a.burst <= b.burst
                    && u128::from(a.units) * u128::from(b.period_ns) <= u128::from(b.units) * u128::from(a.period_ns)
            }
            _ => false,
        };
        // Of two equal ones the second is the one that is too many.
        let equal = tight && format!("{:?}", other.limit.bound) == format!("{:?}", this.limit.bound);
        let before = |a: &Use<'_>, b: &Use<'_>| a.used.limit < b.used.limit;
        same && asked && tight && (!equal || before(other, this))
    })
}

/// The size from which messages are refused whatever else they are, and the rule that says so.
fn size_max<'p>(policy: &'p Policy, rules: &[RuleText]) -> Option<(u64, &'p str)> {
    let refused = policy.rules().iter().zip(rules).filter_map(|(rule, text)| {
        let refuses = rule.outcomes.iter().any(|o| matches!(o, Outcome::Reject(_) | Outcome::Drop(_)));
        let sizes = text.alternatives.iter().flatten().filter_map(|a| match a.as_slice() {
            [only] if only.key == "message.size" && !only.negate => match only.test {
                Test::Number(Relation::Greater | Relation::GreaterOrEqual, n) => u64::try_from(n).ok(),
                _ => None,
            },
            _ => None,
        });
        Some((sizes.min().filter(|_| refuses)?, &*rule.name))
    });
    refused.min()
}
