//! The JSON Schema of a line: the documentation of every field.
//!
//! How it fails: it does not; a test holds that it names every field that is written.

/// The JSON Schema of a line of the journal.
pub fn schema() -> String {
    let text = |doc: &str| serde_json::json!({ "type": "string", "description": doc });
    let number = |doc: &str| serde_json::json!({ "type": "integer", "minimum": 0, "description": doc });
    let flag = |doc: &str| serde_json::json!({ "type": "boolean", "description": doc });
    let tls = serde_json::json!({
        "type": "object",
        "description": "TLS of the connection.",
        "properties": {
            "version": text("`TLSv1.2` or `TLSv1.3`."),
            "cipher": text("Cipher suite by its IANA name."),
            "client_name": text("Name in the client's verified certificate."),
        },
    });
    let mut event = serde_json::json!({
        "type": "object",
        "description": "Something that happened. What the policy was asked has its decision; without `verdict` it passed by default.",
        "required": ["event", "after_ns", "seq"],
        "properties": {
            "event": {
                "enum": ["fact", "connect", "helo", "tls", "auth", "mail", "probe", "rcpt", "refused", "data", "message",
                    "vrfy", "reset", "settled", "shadow"],
                "description": "What happened; `probe` asks whether a recipient would be refused whatever the backend says, \
                    `refused` is the backend's no to the recipient before, `settled` what became of the message, `shadow` that the shadow policy decided otherwise.",
            },
            "after_ns": number("Nanoseconds since the client connected."),
            "seq": number("Number in the run, counted from that of the line."),
            "name": text("HELO name, the stage that a shadow policy decided otherwise, or name of a fact that was found out, such as `spf` or `dnsbl('zen')`."),
            "flag": flag("Value of the fact."),
            "number": { "type": "integer", "description": "Value of the fact." },
            "text": text("Value of the fact; several are separated by line feeds."),
            "ip": text("Value of the fact."),
            "early_talker": flag("The client spoke before the greeting."),
            "load": {
                "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 3, "maxItems": 3,
                "description": "Connections open, memory in use in percent, messages queued.",
            },
            "extended": flag("EHLO or LHLO, not HELO."),
            "tls": tls,
            "user": text("Who logged in."),
            "failed": flag("The login failed."),
            "from": text("Sender, domain in lower case; empty for the null path."),
            "size": number("SIZE= of MAIL FROM."),
            "body": { "enum": ["7bit", "8bitmime", "binarymime"], "description": "BODY= of MAIL FROM." },
            "smtputf8": flag("SMTPUTF8 was asked for."),
            "to": text("Recipient, domain in lower case."),
            "exists": flag("Whether the recipient exists; not there when nobody knew."),
            "header_octets": number("Size of the header section."),
            "received": number("`Received:` fields."),
            "headers": {
                "type": "array", "description": "Header fields in order: [name] or [name, text].",
                "items": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 2 },
            },
            "cut": flag("There were more header fields."),
            "octets": number("Size of the message."),
            "eight_bit": flag("It has octets with the high bit."),
            "binary": flag("It has a NUL or a lone CR or LF."),
            "argument": text("Argument of VRFY or EXPN."),
            "how": text("`delivered`, `queued`, `discarded`, `refused` or `per recipient`; of a shadow: `tightened`, `loosened`, `other refusal`, `other detail` or `undecided`."),
        },
    });
    let said = serde_json::json!({
            "verdict": { "enum": ["accept", "reject", "defer", "drop", "discard"], "description": "What the policy said." },
            "rule": text("The rule that said it, or `default`."),
            "reply": text("Reply of the refusal, or of the backend; of a shadow: what it says."),
            "reason": text("Why, where there was more to say."),
            "delay_ms": number("How long the reply was delayed."),
            "route": text("The route that a rule named."),
            "quarantine": text("Why the message is kept aside."),
            "tags": text("Header fields that rules added, one a line."),
            "points": { "type": "number", "description": "The score after the decision, where it added to it or hangs on it." },
            "added": text("Points that rules added in this decision, one rule a line."),
            "would": text("What rules that only observe would have done, one a line."),
            "guard": text("A guard that made its rule observe, or act again."),
            "prior": text("What was remembered from before the run and had a part in it, one entry a line; a replay begins with it."),
    });
    let score = serde_json::json!({ "type": "number", "description": "Value of the fact, with up to three decimals." });
    event["properties"]["score"] = score;
    // In two pieces: the macro goes only so deep.
    if let (Some(properties), serde_json::Value::Object(said)) = (event["properties"].as_object_mut(), said) {
        properties.extend(said);
    }
    let schema = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of Gatepost's journal",
        "description": "One JSON object a line, in zstd frames. Look at it with jq: `zstdcat journal-*.jsonl.zst | jq -r 'select(any(.events[]; \
            .verdict == \"reject\")) | [.session, .client] | @tsv'`; or with DuckDB: `SELECT e.rule, count(*) FROM (SELECT unnest(events) AS e \
            FROM read_json('journal-*.jsonl.zst', format = 'newline_delimited')) WHERE e.verdict = 'reject' GROUP BY 1 ORDER BY 2 DESC`.",
        "type": "object",
        "required": ["v", "run", "session", "at_ms", "start_ns", "seq", "client", "events", "end"],
        "properties": {
            "v": { "const": super::VERSION, "description": "Version of the format." },
            "run": text("One run of one process; counts of limits belong to it."),
            "session": text("The session's id, as in logs."),
            "part": number("Part of a long session, from 0."),
            "at_ms": number("When the client connected, milliseconds since 1970."),
            "start_ns": number("The same on the clock of the run, nanoseconds."),
            "seq": number("Number of the line's beginning among everything in the run."),
            "policy": text("Version (hash) of the policy that decided; empty when none did."),
            "loads": number("How often the policy had been loaded anew in the run."),
            "listener": text("`mx`, `submission`, `lmtp`, or another name."),
            "client": text("Address of the client."),
            "port": number("Its port."),
            "tls": tls,
            "hashed": flag("Local parts and user names are digests, texts of header fields are left out."),
            "missing": { "type": "array", "items": { "type": "string" }, "description": "Facts that the source could not tell." },
            "events": { "type": "array", "items": event },
            "end": {
                "type": "object",
                "properties": {
                    "after_ns": number("Nanoseconds since the client connected."),
                    "seq": number("Number in the run, counted from that of the line."),
                    "more": flag("Another part of the session follows."),
                },
            },
        },
    });
    format!("{schema:#}\n")
}
