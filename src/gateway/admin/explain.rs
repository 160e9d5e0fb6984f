//! What the policy would say to a session that somebody describes: a golden case without an expectation.
//!
//! How it fails: a description that cannot be one is told in a sentence.

use super::{ExplainCase, Response};
use crate::policy::{CaseFile, Policy};
use std::sync::Arc;

/// Answers a request to explain.
pub fn explain(case: &ExplainCase, policy: &Arc<Policy>) -> Response {
    let text = match text(case) {
        Ok(text) => text,
        Err(why) => return Response::failed("invalid", why),
    };
    let cases = match CaseFile::parse("the case", &text) {
        Ok(cases) => cases,
        Err(findings) => {
            let said: Vec<String> =
                findings.iter().map(|f| format!("{} (expected {})", f.message, f.expected)).collect();
            return Response::failed("invalid", said.join("; "));
        }
    };
    let report = cases.run(policy);
    let Some(result) = report.results.first() else { return Response::failed("invalid", "nothing was asked") };
    let verdict = result.trace.stages.last().map(|stage| stage.verdict.clone()).unwrap_or_default();
    let trace = serde_json::to_value(&result.trace).unwrap_or_default();
    Response::Explained { verdict, trace, text: result.trace.to_string() }
}

/// The case as a file of cases; what is expected of it does not matter here.
fn text(case: &ExplainCase) -> Result<String, String> {
    let mut table = toml::Table::new();
    table.insert("name".into(), "explain".into());
    table.insert("tls".into(), case.tls.into());
    let helo = case.helo.clone().or_else(|| Some("mail.example.net".into()));
    let texts = [
        ("client", &case.client),
        ("listener", &case.listener),
        ("helo", &helo),
        ("user", &case.user),
        ("from", &case.from),
        ("headers", &case.headers),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            table.insert(key.into(), value.clone().into());
        }
    }
    if !case.to.is_empty() {
        table.insert("to".into(), case.to.clone().into());
    }
    if let Some(exists) = case.exists {
        table.insert("exists".into(), exists.into());
    }
    if let Some(size) = case.size {
        table.insert("size".into(), i64::from(size).into());
    }
    if !case.facts.is_empty() {
        let mut facts = toml::Table::new();
        for (name, value) in &case.facts {
            let value: toml::Value = match value {
                serde_json::Value::Bool(flag) => (*flag).into(),
                serde_json::Value::String(text) => text.clone().into(),
                serde_json::Value::Number(n) => n
                    .as_i64()
                    .ok_or_else(|| format!("the fact {name} is {n}; expected a whole number, a text, true or false"))?
                    .into(),
                other => return Err(format!("the fact {name} is {other}; expected a number, a text, true or false")),
            };
            facts.insert(name.clone(), value);
        }
        table.insert("facts".into(), facts.into());
    }
    table.insert("expect".into(), toml::Table::from_iter([("verdict".to_owned(), "accept".into())]).into());
    let file = toml::Table::from_iter([("case".to_owned(), toml::Value::Array(vec![table.into()]))]);
    Ok(file.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Builtins, NoFiles};

    #[test]
    fn a_case_is_explained_and_nonsense_is_told() {
        let builtins = Builtins::new(["example.test"]).unwrap();
        let policy = Arc::new(Policy::compile("edge", Policy::DEFAULT, &NoFiles, &builtins).unwrap());
        let said = |json: serde_json::Value| explain(&serde_json::from_value(json).unwrap(), &policy);
        use serde_json::json;
        let relayed = said(json!({"client": "203.0.113.9", "from": "a@example.net", "to": ["b@elsewhere.example"]}));
        let Response::Explained { verdict, text, trace } = relayed else { panic!("{relayed:?}") };
        assert!(verdict.contains("550") && text.contains("relay-denied"), "{verdict} {text}");
        assert!(trace["stages"].as_array().unwrap().len() >= 4);
        for wrong in [json!({"client": "x"}), json!({"facts": {"no.such": 1}}), json!({"facts": {"client.ptr": [1]}})] {
            assert!(matches!(said(wrong.clone()), Response::Failed { code, .. } if code == "invalid"), "{wrong}");
        }
        assert!(serde_json::from_value::<ExplainCase>(json!({"clinet": "x"})).is_err());
    }
}
