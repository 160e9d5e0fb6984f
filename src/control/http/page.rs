//! The dashboard as one page: markup, style and script put together, and the policy that lets exactly these run.
//!
//! How it fails: it does not.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

const HTML: &str = include_str!("../dashboard/page.html");
const STYLE: &str = include_str!("../dashboard/style.css");
/// In the order in which they stand in the page.
const SCRIPTS: [&str; 4] = [
    include_str!("../dashboard/draw.js"),
    include_str!("../dashboard/live.js"),
    include_str!("../dashboard/story.js"),
    include_str!("../dashboard/policy.js"),
];

/// See the module's head.
pub struct Page {
    pub html: String,
    /// Content-Security-Policy: this style and this script, nothing from elsewhere, no frames, no forms.
    pub policy: HeaderValue,
}

impl Page {
    pub fn new() -> Page {
        let script = format!("\"use strict\";\n{}", SCRIPTS.join("\n"));
        let html = HTML.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", &script);
        let hash = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(&script),
            hash(STYLE)
        );
        // Base64 and words of the policy are visible ASCII.
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Page { html, policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_fetches_nothing() {
        let page = Page::new();
        assert!(page.html.contains("EventSource") && page.html.contains("prefers-color-scheme"));
        for foreign in ["https://", "@import", "url(", "src=\"http", " style=\"", "onclick=", "innerHTML"] {
            // What comes from mail is put into the page as text only.
            assert!(!page.html.contains(foreign), "{foreign}");
        }
        let namespaces = page.html.matches("http://").count();
        assert_eq!(namespaces, page.html.matches("http://www.w3.org/").count());
        let policy = page.policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    }

    #[test]
    fn people_who_do_not_see_it_find_their_way() {
        let html = Page::new().html;
        for part in [
            "<html lang=\"en\">",
            "<main",
            "<nav",
            "<header",
            "aria-live=\"polite\"",
            "class=\"skip\"",
            "<caption",
            "scope=\"col\"",
            "<label",
        ] {
            assert!(html.contains(part), "{part}");
        }
    }
}
