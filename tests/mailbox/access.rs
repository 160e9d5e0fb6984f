//! Mail in and out without any client but the protocols themselves: what is acknowledged is there, for every session.

use crate::support::{DRIVERS, Gate, Talk, run, wait_for};
use crate::{PASSWORD, USER, add_account, deliver, message, system};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

/// A session of IMAP that speaks line by line.
pub struct Imap {
    stream: TcpStream,
    read: BufReader<TcpStream>,
    tag: u32,
}

impl Imap {
    pub fn connect(gate: &Gate) -> Imap {
        let stream = TcpStream::connect(gate.address("imap")).unwrap();
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        let read = BufReader::new(stream.try_clone().unwrap());
        let mut imap = Imap { stream, read, tag: 0 };
        let greeting = imap.line();
        assert!(greeting.starts_with("* OK"), "{greeting}");
        imap
    }

    pub fn login(gate: &Gate, user: &str) -> Imap {
        let mut imap = Imap::connect(gate);
        imap.ok(&format!("LOGIN {user} \"{PASSWORD}\""));
        imap
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.read.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// A command; its untagged answers and its tagged one. Literals are part of the lines that follow.
    pub fn say(&mut self, command: &str) -> (Vec<String>, String) {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(&format!("{tag} {command}\r\n"));
        let mut untagged = Vec::new();
        loop {
            let line = self.line();
            if let Some(status) = line.strip_prefix(&format!("{tag} ")) {
                return (untagged, status.to_owned());
            }
            assert!(untagged.len() < 1_000_000, "no end to {command}");
            untagged.push(line);
        }
    }

    pub fn ok(&mut self, command: &str) -> Vec<String> {
        let (untagged, status) = self.say(command);
        assert!(status.starts_with("OK"), "{command}: {status}; {untagged:?}");
        untagged
    }
}

#[test]
fn the_start_without_configuration_is_a_whole_mail_system() {
    let Some(_curl) = crate::support::peers::peer("curl") else { return };
    for io in DRIVERS {
        let gate = Gate::start(&["--io", io]);
        let said = wait_for("the welcome", || {
            let said = gate.said();
            said.contains("MAILINDEX=1").then_some(said)
        });
        assert!(said.contains("demo@example.test"), "{said}");
        let commands: Vec<&str> =
            said.lines().map(str::trim).filter(|l| l.starts_with("printf") || l.starts_with("curl")).collect();
        assert_eq!(commands.len(), 2, "{said}");
        let shell = |command: &str| run(Command::new("sh").arg("-c").arg(command), "");
        let sent = shell(commands[0]);
        assert!(sent.ok, "{sent:?}");
        let read = shell(commands[1]);
        assert!(read.ok && read.out.contains("Subject: hello") && read.out.contains("It works."), "{read:?}");
        let password = std::fs::metadata(gate.dir.join("demo-password")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&password.permissions()) & 0o777, 0o600);
    }
}

#[test]
fn what_is_acknowledged_is_there_for_pop_and_imap_at_once() {
    for io in DRIVERS {
        let gate = system(io, &[]);
        let mut idler = Imap::login(&gate, USER);
        idler.ok("SELECT INBOX");
        idler.send("i IDLE\r\n");
        assert!(idler.line().starts_with('+'));
        for n in 1..=3 {
            deliver(&gate, USER, &message(&format!("number {n}")));
            let exists = format!("* {n} EXISTS");
            loop {
                let line = idler.line();
                if line == exists {
                    break;
                }
                assert!(line.starts_with("* "), "{io}: {line}");
            }
        }
        let mut pop = Talk::connect(gate.address("pop3"));
        assert!(pop.line().starts_with("+OK"));
        pop.pop(&format!("USER {USER}"));
        pop.pop(&format!("PASS {PASSWORD}"));
        assert!(pop.pop("STAT").starts_with("+OK 3 "));
        pop.pop("RETR 2");
        let text = pop.pop_text();
        assert!(text.contains("Subject: number 2\r\n") && text.ends_with("\r\n..A line with a dot.\r\n"), "{text}");
        assert!(text.starts_with("Return-Path: <bob@example.org>\r\nReceived: "), "{text}");
        pop.pop("QUIT");
        let mut imap = Imap::login(&gate, USER);
        imap.ok("SELECT INBOX");
        let fetched = imap.ok("FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)").join("\n");
        assert!(fetched.contains("\"number 1\"") && fetched.contains("UID 3"), "{fetched}");
    }
}

/// Such a message comes in by a scratch file, which the mailstore takes over, and goes out in pieces.
#[test]
fn a_large_message_is_kept_and_served_as_it_came() {
    for io in DRIVERS {
        let mut gate = system(io, &[]);
        let lines: String = (0..90_000).map(|n| format!("line {n} of a large message\r\n")).collect();
        let large = format!("Subject: large\r\n\r\n{lines}");
        deliver(&gate, USER, &large);
        let mut imap = Imap::login(&gate, USER);
        imap.send(&format!("a APPEND INBOX {{{}+}}\r\n{large}\r\n", large.len()));
        while !imap.line().starts_with("a OK") {}
        // Its files are its own: they are there after a crash and a start.
        gate.kill();
        gate.restart();
        let mut imap = Imap::login(&gate, USER);
        imap.ok("SELECT INBOX");
        let sizes = imap.ok("FETCH 1:2 RFC822.SIZE").join("\n");
        assert!(sizes.contains(&format!("RFC822.SIZE {}", large.len())), "{io}: {sizes}");
        for number in [1, 2] {
            let fetched = imap.ok(&format!("FETCH {number} BODY.PEEK[TEXT]")).join("\r\n");
            assert!(fetched.contains(&lines[..lines.len() - 2]), "{io}: message {number}");
            let part = imap.ok(&format!("FETCH {number} BODY.PEEK[TEXT]<1000000.40>")).join("\r\n");
            assert!(part.contains(lines[1_000_000..1_000_030].split("\r\n").next().unwrap()), "{io}: {part}");
        }
        let mut pop = Talk::connect(gate.address("pop3"));
        pop.line();
        pop.pop(&format!("USER {USER}"));
        pop.pop(&format!("PASS {PASSWORD}"));
        pop.pop("RETR 1");
        assert!(pop.pop_text().trim_end().ends_with(lines.trim_end()), "{io}: by POP3");
        imap.ok("STORE 1:2 +FLAGS (\\Deleted)");
    }
}

#[test]
fn octets_of_pop_are_those_that_are_sent() {
    let gate = system("auto", &[]);
    let mut imap = Imap::login(&gate, USER);
    for text in ["Subject: a\r\n\r\nno line end", "Subject: b\r\n\r\nline end\r\n", "Subject: c\r\n\r\n.\r\n.."] {
        imap.send(&format!("a APPEND INBOX {{{}+}}\r\n{text}\r\n", text.len()));
        while !imap.line().starts_with("a OK") {}
    }
    let mut pop = Talk::connect(gate.address("pop3"));
    pop.line();
    pop.pop(&format!("USER {USER}"));
    pop.pop(&format!("PASS {PASSWORD}"));
    pop.pop("LIST");
    let listed: Vec<usize> = pop.pop_text().lines().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    for (index, octets) in listed.into_iter().enumerate() {
        pop.pop(&format!("RETR {}", index + 1));
        let text = pop.pop_text();
        let stuffed = text.lines().filter(|l| l.starts_with("..")).count();
        assert_eq!(text.len() - stuffed, octets, "{text:?}");
    }
}

#[test]
fn a_delivery_that_cannot_be_is_refused_where_it_belongs() {
    let gate = system("auto", &[]);
    let mut talk = gate.talk();
    talk.say("EHLO client.example", "250");
    talk.say("MAIL FROM:<bob@example.org>", "250");
    talk.say("RCPT TO:<nobody@example.test>", "550 5.1.1");
    talk.say(&format!("RCPT TO:<{USER}>"), "250");
    talk.say("DATA", "354");
    talk.send("Subject: x\r\n\r\nx\r\n.\r\n");
    talk.expect("250");
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_or_told_twice() {
    for io in DRIVERS {
        let mut gate = system(io, &[]);
        let mut acknowledged: Vec<String> = Vec::new();
        for round in 0..4 {
            let address = gate.address("lmtp");
            let (tell, told) = std::sync::mpsc::channel::<String>();
            let threads: Vec<_> = (0..6)
                .map(|thread| {
                    let tell = tell.clone();
                    std::thread::spawn(move || {
                        let Ok(stream) = TcpStream::connect(address) else { return };
                        let mut talk = Talk::over(stream);
                        if !talk.try_reply().starts_with("220") || !talk.try_say("LHLO c", "250") {
                            return;
                        }
                        for n in 0.. {
                            let subject = format!("m{round}-{thread}-{n}");
                            let ok = talk.try_say("MAIL FROM:<b@example.org>", "250")
                                && talk.try_say(&format!("RCPT TO:<{USER}>"), "250")
                                && talk.try_say("DATA", "354")
                                && talk.try_say(&format!("Subject: {subject}\r\n\r\nx\r\n."), "250");
                            if !ok {
                                return;
                            }
                            let _ = tell.send(subject);
                        }
                    })
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(300 + 150 * round));
            gate.kill();
            threads.into_iter().for_each(|t| t.join().unwrap());
            drop(tell);
            acknowledged.extend(told.iter());
            gate.restart();
        }
        assert!(acknowledged.len() > 20, "{io}: only {} acknowledged", acknowledged.len());
        let mut imap = Imap::login(&gate, USER);
        let selected = imap.ok("SELECT INBOX").join("\n");
        let lines = imap.ok("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
        let mut there: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix("Subject: ")).collect();
        there.sort_unstable();
        for subject in &acknowledged {
            assert!(there.binary_search(&subject.as_str()).is_ok(), "{io}: {subject} is lost; {selected}");
        }
        // A message whose acknowledgement was on its way may be there; none is there twice.
        let all = there.len();
        there.dedup();
        assert_eq!(all, there.len(), "{io}: told twice");
        drop(imap);
        gate.terminate();
        let verified = gate.command(&["mailbox", "verify"]);
        assert!(verified.ok, "{verified:?}");
    }
}

#[test]
fn two_accounts_do_not_see_each_other() {
    let gate = system("auto", &[]);
    add_account(&gate, "eve@example.test", &[]);
    deliver(&gate, USER, &message("for ann"));
    let mut eve = Imap::login(&gate, "eve@example.test");
    assert!(eve.ok("SELECT INBOX").iter().any(|l| l == "* 0 EXISTS"));
    let (_, status) = eve.say("SELECT \"ann@example.test/INBOX\"");
    assert!(status.starts_with("NO"), "{status}");
}

/// The policy's patience is for those who read mail, too.
#[test]
fn the_policy_delays_a_greeting_and_a_refusal() {
    use std::time::{Duration, Instant};
    let files = tempfile::tempdir().unwrap();
    let policy = files.path().join("policy.toml");
    let rules = r#"

[[rule]]
name = "slow-readers"
stage = "connect"
when = "listener == 'imap'"
then = "tarpit 700ms"

[[rule]]
name = "no-pop"
stage = "connect"
when = "listener == 'pop3'"
then = ["tarpit 700ms", "reject 554 5.7.1 not today"]
"#;
    std::fs::write(&policy, rules).unwrap();
    for io in DRIVERS {
        let gate = Gate::start(&["--io", io, "--policy", policy.to_str().unwrap()]);
        let began = Instant::now();
        let mut imap = TcpStream::connect(gate.address("imap")).unwrap();
        // Who talks early is not answered early.
        imap.write_all(b"a NOOP\r\n").unwrap();
        let mut line = String::new();
        let mut read = BufReader::new(imap);
        read.read_line(&mut line).unwrap();
        assert!(line.starts_with("* OK"), "{io}: {line}");
        assert!(began.elapsed() >= Duration::from_millis(650), "{io}: greeted after {:?}", began.elapsed());
        line.clear();
        read.read_line(&mut line).unwrap();
        assert!(line.starts_with("a OK"), "{io}: {line}");
        let began = Instant::now();
        let mut pop = BufReader::new(TcpStream::connect(gate.address("pop3")).unwrap());
        line.clear();
        pop.read_line(&mut line).unwrap();
        assert!(line.starts_with("-ERR") && line.contains("not today"), "{io}: {line}");
        assert!(began.elapsed() >= Duration::from_millis(650), "{io}: refused after {:?}", began.elapsed());
        line.clear();
        assert_eq!(pop.read_line(&mut line).unwrap(), 0, "{io}: and closed");
    }
}
