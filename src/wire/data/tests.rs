//! The scanner against its naive twin, over splits, and every smuggling sequence we know of.

use super::*;
use proptest::prelude::*;

fn rules(bare_newline: BareNewline) -> DataRules {
    DataRules {
        framing: Framing::Dots,
        bare_newline,
        binary: false,
        octets_max: 1 << 20,
        header_octets_max: 1 << 20,
        line_octets_max: 1 << 20,
    }
}

/// What came of a stream: octets used, clean text, offence, shape.
#[derive(Debug, PartialEq)]
struct Seen {
    consumed: Option<usize>,
    text: Vec<u8>,
    offence: Option<Offence>,
    shape: BodyShape,
}

fn run(rules: DataRules, pieces: &[&[u8]]) -> Seen {
    let (mut scan, mut text, mut used) = (Text::new(rules), Vec::new(), 0);
    for piece in pieces {
        let fed = scan.feed(piece, &mut text);
        used += fed.consumed;
        if fed.end {
            return Seen { consumed: Some(used), text, offence: scan.offence(), shape: scan.shape() };
        }
        assert_eq!(fed.consumed, piece.len());
    }
    scan.finish(&mut text);
    Seen { consumed: None, text, offence: scan.offence(), shape: scan.shape() }
}

/// The twin: works on the whole stream by searching and replacing, knows nothing of states.
fn naive(rules: DataRules, input: &[u8]) -> Option<(usize, Vec<u8>, Option<Offence>)> {
    let led: Vec<u8> = [b"\r\n", input].concat();
    let end = led.windows(5).position(|w| w == b"\r\n.\r\n")?;
    let mut text = Vec::new();
    let mut offence = None;
    let mut rest = led[..end + 2].strip_prefix(b"\r\n").unwrap();
    while !rest.is_empty() {
        let eol = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let line = &rest[..eol];
        for &b in line.strip_prefix(b".").unwrap_or(line) {
            match b {
                b'\r' | b'\n' if rules.bare_newline == BareNewline::Normalise => text.extend(b"\r\n"),
                b'\r' | b'\n' => offence = offence.or(Some(Offence::BareNewline)),
                0 => offence = offence.or(Some(Offence::Nul)),
                _ => text.push(b),
            }
            if offence.is_some() {
                return Some((end + 3, Vec::new(), offence));
            }
        }
        text.extend(b"\r\n");
        rest = &rest[eol + 2..];
    }
    Some((end + 3, text, None))
}

fn naive_shape(text: &[u8]) -> BodyShape {
    let header = if text.starts_with(b"\r\n") {
        2
    } else {
        text.windows(4).position(|w| w == b"\r\n\r\n").map_or(text.len(), |n| n + 4)
    };
    let lines = |t: &[u8]| String::from_utf8_lossy(t).split("\r\n").map(str::to_owned).collect::<Vec<_>>();
    BodyShape {
        octets: text.len() as u64,
        eight_bit: text.iter().any(|b| *b >= 128),
        needs_stuffing: lines(text).iter().any(|l| l.starts_with('.')),
        ends_with_crlf: text.is_empty() || text.ends_with(b"\r\n"),
        binary: false,
        header_octets: header as u64,
        received_fields: lines(&text[..header]).iter().filter(|l| l.to_lowercase().starts_with("received:")).count()
            as u32,
    }
}

fn agree(rules: DataRules, input: &[u8]) {
    let whole = run(rules, &[input]);
    match naive(rules, input) {
        None => assert_eq!(whole.consumed, None),
        Some((used, text, offence)) => {
            assert_eq!((whole.consumed, whole.offence), (Some(used), offence));
            if offence.is_none() {
                assert_eq!(String::from_utf8_lossy(&whole.text), String::from_utf8_lossy(&text));
                assert_eq!(whole.shape, naive_shape(&text));
            }
        }
    }
    let single: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(rules, &single), whole);
}

#[test]
fn only_crlf_dot_crlf_ends_data() {
    for smuggled in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\r\n.\r\r\n",
        "\n\r.\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\r\n. \r\n",
        "\r\n..\r\n",
        "\r\n.\r.\r\n",
        "\r\r\n.\r\r\n",
        "\n\n.\n\n",
        "\r\n.\n\r\n",
    ] {
        let input = format!("a: b\r\n\r\nfirst{smuggled}MAIL FROM:<x@y.z>\r\n.\r\nQUIT\r\n");
        for mode in [BareNewline::Refuse, BareNewline::Normalise] {
            let seen = run(rules(mode), &[input.as_bytes()]);
            assert_eq!(seen.consumed, Some(input.len() - "QUIT\r\n".len()), "{smuggled:?}");
            let bare = seen.text.windows(2).any(|w| (w[0] == CR) != (w[1] == LF)) || seen.text.contains(&0);
            assert!(!bare, "{smuggled:?} was passed on");
            agree(rules(mode), input.as_bytes());
        }
        let refused = run(rules(BareNewline::Refuse), &[input.as_bytes()]).offence.is_some();
        assert_eq!(refused, !["\r\n. \r\n", "\r\n..\r\n"].contains(&smuggled), "{smuggled:?}");
    }
}

#[test]
fn normalised_text_has_its_dots_stuffed_onward() {
    let seen = run(rules(BareNewline::Normalise), &[b"\r\nx\n.\ny\r\n.\r\n"]);
    assert_eq!(seen.text, b"\r\nx\r\n.\r\ny\r\n");
    assert!(seen.shape.needs_stuffing && seen.shape.ends_with_crlf);
}

#[test]
fn the_empty_message_and_dots() {
    let seen = run(rules(BareNewline::Refuse), &[b".\r\nrest"]);
    assert_eq!((seen.consumed, seen.text.len(), seen.shape.ends_with_crlf), (Some(3), 0, true));
    assert_eq!(run(rules(BareNewline::Refuse), &[b"..\r\n.\r\n"]).text, b".\r\n");
}

#[test]
fn limits_are_exact() {
    let refuse = rules(BareNewline::Refuse);
    let body = b"a: b\r\n\r\n12345678\r\n.\r\n"; // 18 octets, header 8, longest line 8
    let offence = |r: DataRules| run(r, &[body]).offence;
    assert_eq!(offence(DataRules { octets_max: 18, header_octets_max: 8, line_octets_max: 8, ..refuse }), None);
    assert_eq!(offence(DataRules { octets_max: 17, ..refuse }), Some(Offence::TooLarge));
    assert_eq!(offence(DataRules { header_octets_max: 7, ..refuse }), Some(Offence::HeaderTooLarge));
    assert_eq!(offence(DataRules { line_octets_max: 7, ..refuse }), Some(Offence::LineTooLong));
    let long = [&b"\r\n"[..], &vec![b'x'; 9000], b"\r\n.\r\n"].concat();
    for (max, expected) in [(9000, None), (8999, Some(Offence::LineTooLong))] {
        assert_eq!(run(DataRules { line_octets_max: max, ..refuse }, &[&long]).offence, expected);
    }
}

#[test]
fn chunks_are_not_dotted_and_binary_passes_untouched() {
    let chunks = DataRules { framing: Framing::Chunks, ..rules(BareNewline::Refuse) };
    let seen = run(chunks, &[b"\r\n.\r", b"\n..x"]);
    assert_eq!((seen.text.as_slice(), seen.offence), (&b"\r\n.\r\n..x"[..], None));
    assert!(seen.shape.needs_stuffing && !seen.shape.ends_with_crlf);
    assert_eq!(run(chunks, &[b"x\r"]).offence, Some(Offence::BareNewline));
    let normal = DataRules { bare_newline: BareNewline::Normalise, ..chunks };
    assert_eq!(run(normal, &[b"x\r", b"y\nz\r"]).text, b"x\r\ny\r\nz\r\n");
    let binary = DataRules { binary: true, ..chunks };
    let seen = run(binary, &[b"\r\n\0\n\r", b"\r", b"\n\xff\r"]);
    assert_eq!((seen.text.as_slice(), seen.offence), (&b"\r\n\0\n\r\r\n\xff\r"[..], None));
    assert!(seen.shape.binary && seen.shape.eight_bit && !seen.shape.ends_with_crlf);
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => Just(b"\r\n".to_vec()),
        4 => Just(b".".to_vec()),
        2 => Just(b"\r".to_vec()),
        2 => Just(b"\n".to_vec()),
        1 => Just(vec![0]),
        1 => Just(b"Received: x".to_vec()),
        2 => Just("é".as_bytes().to_vec()),
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        1 => (3000usize..9000).prop_map(|n| [&vec![b'x'; n][..], b"\r\n"].concat()),
        1 => Just(b"\r\n.\r\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|p| p.concat())
}

/// Blocks are looked at as wholes: what is wrong at their very edge must be seen as well.
#[test]
fn bare_octets_at_the_edge_of_a_block_are_found() {
    for wrong in ["\r\r", "\r\r\n", "\r\rx", "\n", "\r", "\n\n", "\r\n\n", "\0"] {
        for length in (0..3 * PIECE_OCTETS).chain(BLOCK_OCTETS - 8..BLOCK_OCTETS + 8) {
            let line = [vec![b'x'; 60], b"\r\n".to_vec()].concat();
            let mut input = b"A: b\r\n\r\n".to_vec();
            while input.len() + line.len() < length {
                input.extend_from_slice(&line);
            }
            input.resize(input.len().max(length), b'y');
            input.extend_from_slice(wrong.as_bytes());
            input.extend_from_slice(b"z\r\n.\r\n");
            let seen = run(rules(BareNewline::Refuse), &[&input]);
            assert!(seen.offence.is_some(), "{wrong:?} behind {length} octets passed");
            let whole = run(rules(BareNewline::Normalise), &[&input]);
            let text = whole.text.iter().zip(whole.text.iter().skip(1));
            let bare = text.filter(|(a, b)| (**a == b'\r') != (**b == b'\n')).count();
            assert_eq!(bare, 0, "{wrong:?} behind {length} octets is in the text");
        }
    }
}

proptest! {
    #[test]
    fn fast_and_naive_agree(input in stream(), normalise: bool, cuts in proptest::collection::vec(0usize..9000, 0..6)) {
        let mode = if normalise { BareNewline::Normalise } else { BareNewline::Refuse };
        let whole = [&input[..], b"\r\n.\r\nQUIT"].concat();
        agree(rules(mode), &whole);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &whole[w[0]..w[1]]).collect();
        prop_assert_eq!(run(rules(mode), &pieces), run(rules(mode), &[&whole]));
    }

    #[test]
    fn ordinary_text_comes_out_as_it_went_in(lines in proptest::collection::vec("[ -~]{0,200}", 0..200)) {
        let clean: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        let stuffed: String = lines.iter().map(|l| format!("{}{l}\r\n", if l.starts_with('.') { "." } else { "" })).collect();
        let seen = run(rules(BareNewline::Refuse), &[stuffed.as_bytes(), b".\r\n"]);
        prop_assert_eq!(String::from_utf8(seen.text).unwrap(), clean);
        prop_assert_eq!(seen.offence, None);
    }
}
