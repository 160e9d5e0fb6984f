//! Address lists of header fields as IMAP tells them: display name, route, local part, domain, and the marks of groups
//! (RFC 5322 §3.4 with its obsolete forms, RFC 9051 §7.5.2).
//!
//! Senders' fields are never refused here, unlike `wire::address`, which reads the envelope of SMTP. How it fails: it
//! does not; what makes no sense is skipped up to the next comma.

use super::header::Lexer;

/// Addresses of one field that are told at most; the rest of a longer list is left out of ENVELOPE.
pub(super) const ADDRESSES_MAX: usize = 10_000;

/// An address, or the mark of a group's beginning or end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub name: Option<Vec<u8>>,
    /// The at-domain-list of RFC 822 routes.
    pub route: Option<Vec<u8>>,
    /// Local part without quotes; of a group's beginning its name; `None` at its end.
    pub mailbox: Option<Vec<u8>>,
    /// `None` only where the address is the mark of a group.
    pub host: Option<Vec<u8>>,
}

/// A character of an atom, with those let through that no grammar allows but mails contain.
fn is_word_char(b: u8) -> bool {
    b > b' ' && b != 0x7f && !b"()<>@,;:\\\".[]".contains(&b)
}

/// Tells each address of a list, at most `max`.
pub(super) fn addresses(value: &[u8], max: usize, mut each: impl FnMut(Address)) {
    let mut reader = Addresses { lexer: Lexer::new(value), words: Words::default(), in_group: false };
    for _ in 0..max {
        match reader.next() {
            Some(address) => each(address),
            None => return,
        }
    }
}

/// Words in front of what decides whether they are a name or a local part.
#[derive(Default)]
struct Words {
    /// With single spaces where spaces were.
    phrase: Vec<u8>,
    /// Without them.
    local: Vec<u8>,
    /// Whether there was a word; a quoted one may be empty.
    any: bool,
    space: bool,
    comment: Option<Vec<u8>>,
}

impl Words {
    fn push(&mut self, word: &[u8]) {
        if self.space && !self.phrase.is_empty() {
            self.phrase.push(b' ');
        }
        self.space = false;
        self.any = true;
        self.phrase.extend_from_slice(word);
        self.local.extend_from_slice(word);
    }
    fn space(&mut self, lexer: &mut Lexer<'_>) {
        let (space, comment) = lexer.skip_space();
        self.space |= space;
        self.comment = comment.or(self.comment.take());
    }
    /// A name: the phrase, or the comment that stood in for one before RFC 822.
    fn name(&mut self) -> Option<Vec<u8>> {
        let phrase = std::mem::take(&mut self.phrase);
        let name = if phrase.is_empty() { self.comment.take().unwrap_or_default() } else { phrase };
        (!name.is_empty()).then_some(name)
    }
}

struct Addresses<'a> {
    lexer: Lexer<'a>,
    words: Words,
    in_group: bool,
}

impl Addresses<'_> {
    fn next(&mut self) -> Option<Address> {
        self.words = Words::default();
        loop {
            self.words.space(&mut self.lexer);
            match self.lexer.peek() {
                None => {
                    if self.words.any {
                        return Some(self.bare());
                    }
                    return std::mem::take(&mut self.in_group).then(Address::default);
                }
                Some(b'"') => {
                    let word = self.lexer.quoted();
                    self.words.push(&word);
                }
                Some(b'.') => {
                    self.lexer.bump();
                    self.words.push(b".");
                }
                Some(b'<') => {
                    self.lexer.bump();
                    return Some(self.angle());
                }
                Some(b'@') => {
                    self.lexer.bump();
                    return Some(self.with_domain());
                }
                Some(b':') => {
                    self.lexer.bump();
                    if !self.in_group {
                        self.in_group = true;
                        let name = std::mem::take(&mut self.words.phrase);
                        return Some(Address { mailbox: Some(name), ..Address::default() });
                    }
                    self.words = Words::default();
                }
                Some(b',') => {
                    self.lexer.bump();
                    if self.words.any {
                        return Some(self.bare());
                    }
                    self.words = Words::default();
                }
                Some(b';') => {
                    if self.words.any {
                        // The semicolon is seen again behind it.
                        return Some(self.bare());
                    }
                    self.lexer.bump();
                    if std::mem::take(&mut self.in_group) {
                        return Some(Address::default());
                    }
                }
                Some(b) if is_word_char(b) => {
                    let word = self.lexer.run(is_word_char);
                    self.words.push(word);
                }
                Some(_) => self.lexer.bump(),
            }
        }
    }

    /// Words that no domain followed: one is a local part, several are a name.
    fn bare(&mut self) -> Address {
        let mut mailbox = std::mem::take(&mut self.words.local);
        if self.words.phrase == mailbox {
            self.words.phrase.clear();
        } else {
            mailbox.clear();
        }
        Address { name: self.words.name(), route: None, mailbox: Some(mailbox), host: Some(Vec::new()) }
    }

    /// `local@domain` without angle brackets; the `@` has been read.
    fn with_domain(&mut self) -> Address {
        let mailbox = std::mem::take(&mut self.words.local);
        self.words.phrase.clear();
        let host = self.domain();
        self.rest();
        Address { name: self.words.name(), route: None, mailbox: Some(mailbox), host: Some(host) }
    }

    /// Behind `<`.
    fn angle(&mut self) -> Address {
        let (mut route, mut mailbox, mut host) = (None, Vec::new(), Vec::new());
        loop {
            self.words.space(&mut self.lexer);
            match self.lexer.peek() {
                Some(b'"') => mailbox.extend(self.lexer.quoted()),
                Some(b'@') if mailbox.is_empty() && route.is_none() => {
                    // RFC 5322 §4.4, obs-route: a list of domains up to the colon.
                    let list = self.lexer.run(|b| !matches!(b, b':' | b'>' | b'<' | b'"' | b'('));
                    if self.lexer.eat(b':') {
                        route = Some(list.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect());
                    }
                }
                Some(b'@') => {
                    self.lexer.bump();
                    host = self.domain();
                }
                Some(b'>') => {
                    self.lexer.bump();
                    break;
                }
                None | Some(b',' | b';') => break,
                Some(b'.') => {
                    self.lexer.bump();
                    mailbox.push(b'.');
                }
                Some(b) if is_word_char(b) => mailbox.extend_from_slice(self.lexer.run(is_word_char)),
                Some(_) => self.lexer.bump(),
            }
        }
        self.rest();
        Address { name: self.words.name(), route, mailbox: Some(mailbox), host: Some(host) }
    }

    /// A domain or a domain literal, without the spaces and comments in it.
    fn domain(&mut self) -> Vec<u8> {
        let mut domain = Vec::new();
        loop {
            self.words.space(&mut self.lexer);
            match self.lexer.peek() {
                Some(b'.') => {
                    self.lexer.bump();
                    domain.push(b'.');
                }
                Some(b'[') if domain.is_empty() => {
                    domain.extend_from_slice(self.lexer.run(|b| !matches!(b, b']' | b',' | b'>')));
                    if self.lexer.eat(b']') {
                        domain.push(b']');
                    }
                    return domain;
                }
                // Two words in a row are no domain; the second is not part of it.
                Some(b) if is_word_char(b) && (domain.is_empty() || domain.ends_with(b".")) => {
                    domain.extend_from_slice(self.lexer.run(is_word_char));
                }
                _ => return domain,
            }
        }
    }

    /// What stands between an address and the next comma or semicolon means nothing, but for a comment.
    fn rest(&mut self) {
        loop {
            self.words.space(&mut self.lexer);
            match self.lexer.peek() {
                None | Some(b';') => return,
                Some(b',') => {
                    self.lexer.bump();
                    return;
                }
                // The comma between two addresses was forgotten.
                Some(b'<') => return,
                Some(b'"') => drop(self.lexer.quoted()),
                Some(_) => self.lexer.bump(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let mut all = Vec::new();
        let text = |t: &Option<Vec<u8>>| t.as_ref().map_or("-".into(), |t| String::from_utf8_lossy(t).into_owned());
        addresses(value.as_bytes(), ADDRESSES_MAX, |a| {
            let mut one = format!("{}|{}@{}", text(&a.name), text(&a.mailbox), text(&a.host));
            if a.route.is_some() {
                one = format!("{one}|{}", text(&a.route));
            }
            all.push(one);
        });
        all.join(" ; ")
    }

    #[test]
    fn lists_of_addresses() {
        for (value, expected) in [
            // RFC 5322 Appendix A
            ("John Doe <jdoe@machine.example>", "John Doe|jdoe@machine.example"),
            ("\"Joe Q. Public\" <john.q.public@example.com>", "Joe Q. Public|john.q.public@example.com"),
            (
                "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
                "Mary Smith|mary@x.test ; -|jdoe@example.org ; Who?|one@y.test",
            ),
            (
                "<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
                "-|boss@nil.test ; Giant; \"Big\" Box|sysservices@example.net",
            ),
            (
                "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
                "-|A Group@- ; Ed Jones|c@a.test ; -|joe@where.test ; John|jdoe@one.test ; -|-@-",
            ),
            ("Undisclosed recipients:;", "-|Undisclosed recipients@- ; -|-@-"),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete|pete@silly.test"),
            (
                "Mary Smith <@node.test, @b:mary@example.net>, , jdoe@test  . example",
                "Mary Smith|mary@example.net|@node.test,@b ; -|jdoe@test.example",
            ),
            // Forms of old and broken ones
            ("user@host (Real Name)", "Real Name|user@host"),
            ("user", "-|user@"),
            ("Someone Else, \"Some One\"", "Someone Else|@ ; -|Some One@"),
            ("<user>", "-|user@"),
            ("<>", "-|@"),
            ("\"\"@x, \"a b\"@[192.0.2.1]", "-|@x ; -|a b@[192.0.2.1]"),
            ("J. \"Q\" Public <a@b>", "J. Q Public|a@b"),
            ("a@b <c@d>, e", "-|a@b ; -|c@d ; -|e@"),
            ("group: a@b", "-|group@- ; -|a@b ; -|-@-"),
            ("a: b: c@d;;", "-|a@- ; -|c@d ; -|-@-"),
            ("<a@b", "-|a@b"),
            ("\"open <a@b", "-|open <a@b@"),
            (",,;>", ""),
            ("", ""),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn no_more_than_so_many() {
        let mut told = 0;
        addresses(&b"a,".repeat(50), 20, |_| told += 1);
        assert_eq!(told, 20);
    }
}
