//! The TXT records a check of signatures may see: asked for beforehand, given out as the library's cache.
//!
//! How it fails: a name that was not asked for reads as a failure of the name servers, so that the library never asks
//! anybody itself.

use super::super::question::{Found, Key, Miss, is_dns_name};
use super::super::records::Resolve;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::resolver::ToFqdn;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{DnsError, Error, ResolverCache, Txt};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Names asked for at once for one message; past it they count as failed. Eleven domains of eight steps stay below it.
const NAMES_MAX: usize = 100;

/// What is recorded under a name.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// These; octets, each record's strings joined.
    Found(Arc<[Box<[u8]>]>),
    /// There are none.
    Nothing,
    /// It could not be found out.
    Failed(String),
}

/// The TXT records of one name (any case, with or without the final dot).
pub(super) async fn text(dns: &Resolve, name: &str) -> Text {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if !is_dns_name(&name) {
        return Text::Nothing;
    }
    match dns.get(&Key::Txt(name.into())).await.result {
        Ok(Found::Texts(texts)) => Text::Found(texts),
        Err(miss @ Miss::Temporary(_)) => Text::Failed(miss.to_string()),
        _ => Text::Nothing,
    }
}

/// The TXT records of many names, asked for side by side.
pub(super) async fn texts(dns: &Resolve, names: &[String]) -> Vec<(String, Text)> {
    let mut asked = JoinSet::new();
    for name in names.iter().take(NAMES_MAX) {
        let (dns, name) = (dns.clone(), name.clone());
        asked.spawn(async move {
            let text = text(&dns, &name).await;
            (name, text)
        });
    }
    let mut found = Vec::with_capacity(names.len());
    while let Some(done) = asked.join_next().await {
        found.extend(done);
    }
    found.extend(names.iter().skip(NAMES_MAX).map(|name| (name.clone(), Text::Failed("too many names".into()))));
    found
}

/// Keys by their names, as the library asks for them.
pub(super) struct Keys(HashMap<Box<str>, Txt>);

impl Keys {
    /// Asks for the keys of these names.
    pub(super) async fn ask(dns: &Resolve, names: &[String]) -> Keys {
        let found = texts(dns, names).await;
        Keys(found.into_iter().map(|(name, text)| (name.to_fqdn().into_owned().into(), key(&text))).collect())
    }
}

/// The first record that is a key (RFC 6376 §3.6.2.2 leaves several undefined).
fn key(text: &Text) -> Txt {
    let texts = match text {
        Text::Found(texts) => texts,
        Text::Nothing => return Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain))),
        Text::Failed(why) => return Txt::Error(Error::Dns(DnsError::Resolver(why.clone()))),
    };
    let mut error = Error::Dns(DnsError::InvalidRecordType);
    for text in texts.iter() {
        match DomainKey::parse(text) {
            Ok(key) => return Txt::DomainKey(Arc::new(key)),
            Err(e) => error = e,
        }
    }
    Txt::Error(error)
}

impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let not_asked = || Txt::Error(Error::Dns(DnsError::Resolver("the record was not asked for".into())));
        Some(self.0.get(name).cloned().unwrap_or_else(not_asked))
    }
    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }
    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}
