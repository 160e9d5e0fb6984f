//! Actions of policy services (access(5)), as advice.
//!
//! How it fails: an answer without an action, or with one that is in no manual, is garbage.

use super::super::failure::Failure;
use super::super::milter::{field_name, field_value};
use super::super::reply::{refusal, refusal_with};
use crate::base::inquiry::{Action, Advice, Case, Edit};
use crate::wire::address::parse_mailbox;

/// Reads an answer.
pub(super) fn advice(answer: &str, case: &Case) -> Result<Advice, Failure> {
    let action = answer
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("action="))
        .ok_or_else(|| Failure::Garbage(format!("{:?} has no action", shortened(answer))))?;
    of_action(action.trim(), case)
}

fn of_action(action: &str, case: &Case) -> Result<Advice, Failure> {
    let (word, text) = action.split_once([' ', '\t']).map_or((action, ""), |(word, text)| (word, text.trim()));
    let noted = || Advice { symbols: vec![shortened(action).into()], ..Advice::default() };
    let garbage = |what: String| Failure::Garbage(format!("{what} in action {:?}", shortened(action)));
    // The codes are the defaults of Postfix: access_map_reject_code, access_map_defer_code.
    let refused = |code: &str, usual: &str| {
        let text = if text.is_empty() { usual } else { text };
        refusal_with(code, text).map(|refusal| refusal.advice()).ok_or_else(|| garbage("no reply".into()))
    };
    let mailbox = || parse_mailbox(text.trim_matches(['<', '>'])).map_err(|e| garbage(e.to_string()));
    match word.to_ascii_uppercase().as_str() {
        "DUNNO" => Ok(Advice::default()),
        // "OK" also ends Postfix's own list; what else is checked here the rules say.
        "OK" | "PERMIT" | "INFO" | "WARN" => Ok(noted()),
        "REJECT" => refused("554", "5.7.1 Access denied"),
        // "If nothing else refuses": rules that come later still may.
        "DEFER" | "DEFER_IF_PERMIT" => refused("450", "4.7.1 Service temporarily unavailable"),
        "DEFER_IF_REJECT" => Ok(noted()),
        "DISCARD" => Ok(Advice { action: Action::Discard, ..noted() }),
        "HOLD" => Ok(Advice { action: Action::Quarantine, ..noted() }),
        "PREPEND" => {
            let (name, value) = text.split_once(':').ok_or_else(|| garbage("no header field".into()))?;
            let (name, value) = (field_name(name.as_bytes())?, field_value(value.trim().as_bytes())?);
            Ok(Advice { edits: vec![Edit::InsertField { at: 0, name, value }], ..Advice::default() })
        }
        "BCC" => Ok(Advice { edits: vec![Edit::AddRecipient(mailbox()?)], ..Advice::default() }),
        "REDIRECT" => {
            let away = case.recipients.iter().cloned().map(Edit::RemoveRecipient);
            let edits = away.chain([Edit::AddRecipient(mailbox()?)]).collect();
            Ok(Advice { edits, ..Advice::default() })
        }
        "FILTER" => Ok(noted()),
        number if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => match refusal(action) {
            Some(refusal) => Ok(refusal.advice()),
            // access(5): an all-numerical result is OK.
            None if text.is_empty() && number.len() != 3 => Ok(noted()),
            None => Err(garbage("no reply of 4xx or 5xx".into())),
        },
        // Postfix's own restrictions and classes: nothing here has them.
        name if name.starts_with("PERMIT_") || name.starts_with("REJECT_") || name.starts_with("CHECK_") => Ok(noted()),
        _ => Err(garbage("no action we know".into())),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::SessionId;
    use crate::wire::address::parse_domain;
    use proptest::prelude::*;

    fn case() -> Case {
        Case {
            session: SessionId(1),
            host: parse_domain("mx.example.test").unwrap(),
            listener: "mx".into(),
            client: "192.0.2.1:2525".parse().unwrap(),
            local: "127.0.0.1:25".parse().unwrap(),
            client_name: None,
            helo: "mail.example.org".into(),
            tls: None,
            user: None,
            sender: None,
            recipients: vec![parse_mailbox("bob@example.test").unwrap()],
            transaction: 1,
            spf: None,
            body: None,
        }
    }

    fn read(action: &str) -> Advice {
        advice(&format!("action={action}\n\n"), &case()).unwrap()
    }

    #[test]
    fn words_that_decide() {
        for (said, action, reply) in [
            ("DUNNO", Action::Accept, None),
            ("dunno", Action::Accept, None),
            ("OK", Action::Accept, None),
            ("REJECT", Action::Reject, Some("554 5.7.1 Access denied")),
            ("REJECT go away", Action::Reject, Some("554 5.7.1 go away")),
            ("reject 5.7.23 SPF fail", Action::Reject, Some("554 5.7.23 SPF fail")),
            ("DEFER", Action::Defer, Some("450 4.7.1 Service temporarily unavailable")),
            ("DEFER_IF_PERMIT Greylisted, see http://x", Action::Defer, Some("450 4.7.1 Greylisted, see http://x")),
            ("DEFER_IF_REJECT later", Action::Accept, None),
            ("550 no", Action::Reject, Some("550 5.7.1 no")),
            ("451 4.3.5 broken", Action::Defer, Some("451 4.3.5 broken")),
            ("DISCARD quietly", Action::Discard, None),
            ("HOLD", Action::Quarantine, None),
            ("FILTER smtp:[127.0.0.1]:10025", Action::Accept, None),
            ("WARN odd", Action::Accept, None),
            ("INFO seen", Action::Accept, None),
            ("12345678", Action::Accept, None),
            ("permit_mynetworks", Action::Accept, None),
        ] {
            let advice = read(said);
            assert_eq!((advice.action, advice.reply.as_deref()), (action, reply), "{said}");
            assert!(advice.edits.is_empty());
        }
        assert_eq!(read("WARN odd").symbols, ["WARN odd".into()]);
    }

    #[test]
    fn words_that_change() {
        let bob = || parse_mailbox("bob@example.test").unwrap();
        let other = || parse_mailbox("a@example.org").unwrap();
        let insert = Edit::InsertField { at: 0, name: "X-Greylist".into(), value: "delayed 300 s".into() };
        assert_eq!(read("PREPEND X-Greylist: delayed 300 s").edits, [insert]);
        assert_eq!(read("BCC a@example.org").edits, [Edit::AddRecipient(other())]);
        assert_eq!(read("REDIRECT <a@example.org>").edits, [Edit::RemoveRecipient(bob()), Edit::AddRecipient(other())]);
    }

    #[test]
    fn answers_that_are_none() {
        for said in [
            "",
            "\n",
            "nothing\n\n",
            "action=\n\n",
            "action=EXPLODE\n\n",
            "action=250 fine\n\n",
            "action=BCC x\n\n",
            "action=PREPEND nonsense\n\n",
            "action=PREPEND a b: c\n\n",
        ] {
            assert!(matches!(advice(said, &case()), Err(Failure::Garbage(_))), "{said:?}");
        }
        // Other attributes do not disturb.
        assert_eq!(advice("foo=bar\r\naction=DUNNO\r\n\r\n", &case()), Ok(Advice::default()));
    }

    proptest! {
        #[test]
        fn no_answer_upsets_it(said in "(?s:.{0,80})", word in "(PREPEND|REDIRECT|4[0-9]{2}|REJECT|[A-Z]+) (?s:.{0,80})") {
            let _ = advice(&said, &case());
            let _ = advice(&format!("action={word}\n\n"), &case());
        }
    }
}
