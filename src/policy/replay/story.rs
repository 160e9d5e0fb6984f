//! One recorded session judged again with an explanation for each of its events.
//!
//! How it fails: a line that cannot be read says so. Limits are counted from zero, so that a refusal by a limit may not come
//! again; what was decided then stands in the record.

use super::live::{Live, Spare};
use super::{Seen, Visitor};
use crate::policy::journal::{Unread, read_event, read_line};
use crate::policy::limits::Limits;
use crate::policy::rules::Policy;
use crate::policy::trace::StageTrace;
use std::sync::Arc;

/// Keys of the limits of one session at most.
const KEYS_MAX: usize = 1024;

/// How the decisions about each event of the parts of a session come about under `policy`: an entry for each event of each
/// part, in order; empty where the policy is not asked or does not judge.
pub fn explain(parts: &[&str], policy: &Arc<Policy>) -> Result<Vec<Vec<StageTrace>>, Unread> {
    let limits = Limits::new(KEYS_MAX, 0);
    let mut places = Vec::new();
    let mut explained = Vec::new();
    let mut live: Option<Live> = None;
    for part in parts {
        let (head, _) = read_line(part, &mut places)?;
        let live = live.get_or_insert_with(|| {
            let mut live = Live::new(&head, policy, &limits, Spare::default());
            live.explain();
            live
        });
        for place in &places {
            let mut told = Told::default();
            if let Some(event) = read_event(part, place) {
                live.play(&event, &mut told);
            }
            explained.push(told.0);
        }
    }
    Ok(explained)
}

/// Collects what one event was judged by.
#[derive(Default)]
struct Told(Vec<StageTrace>);

impl Visitor for Told {
    fn decision(&mut self, _: &Seen<'_>) {}
    fn explained(&mut self, _: &Seen<'_>, stages: &[StageTrace]) {
        self.0.extend_from_slice(stages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::journal::{Event, Head, Said, What, begin, end, write_event};
    use crate::policy::{Builtins, NoFiles};

    #[test]
    fn each_event_has_its_trace() {
        let text = "[[rule]]\nname='spam'\nstage='rcpt'\nwhen=\"rcpt.local == 'trap'\"\nthen='reject'\n";
        let policy = Policy::compile("p", text, &NoFiles, &Builtins::new(["example.test"]).unwrap()).unwrap();
        let mut line = Vec::new();
        begin(&Head { session: "S".into(), ..Head::default() }, &mut line);
        let told = [
            What::Connect { early_talker: false, load: Default::default() },
            What::Helo { name: "x.example".into(), extended: true },
            What::Mail {
                sender: "a@example.net".into(),
                size: None,
                body: Default::default(),
                smtputf8: false,
                load: Default::default(),
            },
            What::Rcpt { to: "trap@example.test".into(), exists: None },
            What::Reset,
        ];
        for (n, what) in told.into_iter().enumerate() {
            let said = matches!(what, What::Rcpt { .. }).then(|| Said {
                verdict: "reject".into(),
                rule: "spam".into(),
                ..Said::default()
            });
            write_event(&Event { after_ns: n as u64, seq: n as u64 + 1, what, said }, &mut line);
        }
        end(9, 9, false, &mut line);
        let line = String::from_utf8(line).unwrap();
        let explained = explain(&[&line], &Arc::new(policy)).unwrap();
        assert_eq!(explained.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 0]);
        let rule = &explained[3][0].rules[0];
        assert!(rule.matched && rule.parts[0].value.contains("trap"), "{rule:?}");
        assert!(explain(&["{\"v\":1"], &policy_again()).is_err());
    }

    fn policy_again() -> Arc<Policy> {
        Arc::new(Policy::compile("p", "", &NoFiles, &Builtins::new(["example.test"]).unwrap()).unwrap())
    }
}
