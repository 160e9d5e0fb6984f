//! The parameters of MAIL and RCPT: the list grammar of RFC 5321 §4.1.2 and the values of the extensions' parameters,
//! each with its emitter.
//!
//! Which parameter a session accepts is the extension table's question (`smtp::ext`). How it fails: [`ParameterError`]
//! names the offence; the client wrote it and sending it again does not help.

use crate::base::envelope::{BodyType, Notify, OriginalRecipient, Ret};
use crate::wire::{address, xtext};

/// Characters of ENVID before decoding at most (RFC 3461 §4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
/// Characters of ORCPT before decoding at most (RFC 3461 §4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;
/// Digits of SIZE at most (RFC 1870 §5).
pub const SIZE_DIGITS_MAX: usize = 20;
/// Parameters on one command at most: more than every registered keyword of RFC 5321's registry.
pub const PARAMETERS_MAX: usize = 24;

/// What is wrong with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// Not `keyword` or `keyword=value`, or too many.
    Syntax,
    /// No extension in force knows the keyword (RFC 5321 §4.1.1.11: 555).
    Unknown,
    /// Given twice.
    Repeated,
    /// The value is not what the keyword takes.
    Value,
}

/// One `keyword` or `keyword=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// As it was written; compare without case.
    pub keyword: &'a str,
    /// What follows the `=`.
    pub value: Option<&'a str>,
}

/// Reads the parameters that follow a path.
pub fn parse_list(text: &str) -> Result<Vec<Parameter<'_>>, ParameterError> {
    // RFC 5321 §3.3: a space before the first parameter; more than one between them is tolerated (§2.4 is liberal).
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(ParameterError::Syntax);
    }
    let mut list: Vec<Parameter<'_>> = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((k, v)) => (k, Some(v)),
            None => (word, None),
        };
        let keyword_ok = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        // esmtp-value excludes "=", space and controls; UTF-8 is let through for ORCPT (RFC 6533 §3).
        let value_ok = value.is_none_or(|v| !v.is_empty() && !v.contains(|c: char| c == '=' || c.is_control()));
        if !keyword_ok || !value_ok || list.len() == PARAMETERS_MAX {
            return Err(ParameterError::Syntax);
        }
        if list.iter().any(|p| p.keyword.eq_ignore_ascii_case(keyword)) {
            return Err(ParameterError::Repeated);
        }
        list.push(Parameter { keyword, value });
    }
    Ok(list)
}

/// SIZE= in octets (RFC 1870 §5). A number beyond 64 bits is as good as the largest: no server takes either.
pub fn parse_size(value: &str) -> Result<u64, ParameterError> {
    if value.is_empty() || value.len() > SIZE_DIGITS_MAX || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParameterError::Value);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// BODY= (RFC 6152 §3, RFC 3030 §3).
pub fn parse_body(value: &str) -> Result<BodyType, ParameterError> {
    [BodyType::SevenBit, BodyType::EightBitMime, BodyType::BinaryMime]
        .into_iter()
        .find(|b| emit_body(*b).eq_ignore_ascii_case(value))
        .ok_or(ParameterError::Value)
}

/// The value of BODY=.
pub fn emit_body(body: BodyType) -> &'static str {
    match body {
        BodyType::SevenBit => "7BIT",
        BodyType::EightBitMime => "8BITMIME",
        BodyType::BinaryMime => "BINARYMIME",
    }
}

/// RET= (RFC 3461 §4.3).
pub fn parse_ret(value: &str) -> Result<Ret, ParameterError> {
    [Ret::Full, Ret::Headers]
        .into_iter()
        .find(|r| emit_ret(*r).eq_ignore_ascii_case(value))
        .ok_or(ParameterError::Value)
}

/// The value of RET=.
pub fn emit_ret(ret: Ret) -> &'static str {
    match ret {
        Ret::Full => "FULL",
        Ret::Headers => "HDRS",
    }
}

/// ENVID=, decoded (RFC 3461 §4.4).
pub fn parse_envid(value: &str) -> Result<String, ParameterError> {
    if value.len() > ENVID_OCTETS_MAX {
        return Err(ParameterError::Value);
    }
    xtext::decode(value).ok_or(ParameterError::Value)
}

/// AUTH= on MAIL, decoded; `<>` is the empty string (RFC 4954 §5).
pub fn parse_auth(value: &str) -> Result<String, ParameterError> {
    match xtext::decode(value).ok_or(ParameterError::Value)? {
        text if text == "<>" => Ok(String::new()),
        text if address::parse_mailbox(&text).is_ok() => Ok(text),
        _ => Err(ParameterError::Value),
    }
}

/// The value of AUTH= on MAIL.
pub fn emit_auth(identity: &str) -> String {
    if identity.is_empty() { "<>".to_owned() } else { xtext::encode(identity) }
}

/// NOTIFY= (RFC 3461 §4.1): NEVER alone, or any of the others.
pub fn parse_notify(value: &str) -> Result<Notify, ParameterError> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(notify);
    }
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return Err(ParameterError::Value),
        };
        *flag = true;
    }
    Ok(notify)
}

/// The value of NOTIFY=.
pub fn emit_notify(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let chosen: Vec<&str> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
    if chosen.is_empty() { "NEVER".to_owned() } else { chosen.join(",") }
}

/// ORCPT= (RFC 3461 §4.2; the type `utf-8` by RFC 6533 §3).
pub fn parse_orcpt(value: &str) -> Result<OriginalRecipient, ParameterError> {
    let (address_type, encoded) = value.split_once(';').ok_or(ParameterError::Value)?;
    let type_ok = !address_type.is_empty()
        && address_type.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*-^_`{|}~.".contains(&b));
    if !type_ok || encoded.is_empty() || value.len() > ORCPT_OCTETS_MAX {
        return Err(ParameterError::Value);
    }
    let address = if address_type.eq_ignore_ascii_case("utf-8") {
        xtext::decode_utf8_address(encoded)
    } else {
        xtext::decode(encoded)
    };
    Ok(OriginalRecipient { address_type: address_type.to_owned(), address: address.ok_or(ParameterError::Value)? })
}

/// The value of ORCPT=; in ASCII only unless `utf8`.
pub fn emit_orcpt(original: &OriginalRecipient, utf8: bool) -> String {
    let address = if original.address_type.eq_ignore_ascii_case("utf-8") {
        xtext::encode_utf8_address(&original.address, utf8)
    } else {
        xtext::encode(&original.address)
    };
    format!("{};{address}", original.address_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists() {
        let list = parse_list(" SIZE=12  SMTPUTF8").unwrap();
        assert_eq!(
            list,
            [Parameter { keyword: "SIZE", value: Some("12") }, Parameter { keyword: "SMTPUTF8", value: None }]
        );
        assert_eq!(parse_list(""), Ok(vec![]));
        for (bad, why) in [
            ("SIZE=1", ParameterError::Syntax),
            (" SIZE=", ParameterError::Syntax),
            (" =1", ParameterError::Syntax),
            (" A=B=C", ParameterError::Syntax),
            (" -A", ParameterError::Syntax),
            (" A_B", ParameterError::Syntax),
            (" A=1 a=2", ParameterError::Repeated),
        ] {
            assert_eq!(parse_list(bad), Err(why), "{bad}");
        }
        let many: String = (0..=PARAMETERS_MAX).map(|i| format!(" K{i}")).collect();
        assert_eq!(parse_list(&many), Err(ParameterError::Syntax));
    }

    #[test]
    fn values() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("99999999999999999999"), Ok(u64::MAX));
        assert_eq!(parse_size("1000000000000000000000"), Err(ParameterError::Value));
        assert_eq!(parse_size("-1"), Err(ParameterError::Value));
        assert_eq!(parse_notify("never"), Ok(Notify::default()));
        assert_eq!(parse_notify("NEVER,DELAY"), Err(ParameterError::Value));
        assert_eq!(parse_notify("SUCCESS,,DELAY"), Err(ParameterError::Value));
        assert_eq!(parse_auth("<>"), Ok(String::new()));
        assert_eq!(parse_auth("e+3Dmc2@example.com"), Ok("e=mc2@example.com".into()));
        assert_eq!(parse_auth("nobody"), Err(ParameterError::Value));
        assert_eq!(parse_envid(&"x".repeat(101)), Err(ParameterError::Value));
        assert_eq!(parse_envid("a+0Db"), Err(ParameterError::Value));
        for bad in ["bob@example.org", ";x", "rfc822;", "rf c;x", "rfc822;a+0Ab", "utf-8;\\x{0D}"] {
            assert_eq!(parse_orcpt(bad), Err(ParameterError::Value), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn emitted_values_are_read_back(text in "[ -~]{1,30}", wide in "[ -~é漢]{1,30}", utf8: bool, flags: [bool; 3]) {
            let plain = OriginalRecipient { address_type: "rfc822".into(), address: text };
            prop_assert_eq!(parse_orcpt(&emit_orcpt(&plain, utf8)), Ok(plain));
            let wide = OriginalRecipient { address_type: "utf-8".into(), address: wide };
            prop_assert_eq!(parse_orcpt(&emit_orcpt(&wide, utf8)), Ok(wide));
            let notify = Notify { success: flags[0], failure: flags[1], delay: flags[2] };
            prop_assert_eq!(parse_notify(&emit_notify(notify)), Ok(notify));
        }
        #[test]
        fn foreign_text_never_panics(text: String) {
            let _ = parse_list(&text);
            let _ = (parse_size(&text), parse_notify(&text), parse_orcpt(&text), parse_auth(&text), parse_envid(&text));
        }
    }
}
