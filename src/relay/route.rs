//! Which route a recipient takes: the first that names its address, else the first whose domains contain its domain,
//! else the one that names neither; unless the policy names one.
//!
//! How it fails: it does not; a table always has a route for the rest, and an unknown name counts as none.

use crate::base::address::Mailbox;
use std::collections::HashMap;

/// What a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Its name, for the policy's `route NAME`.
    pub name: String,
    /// `example.org` is that domain, `.example.org` everything below it.
    pub domains: Vec<String>,
    /// Whole addresses.
    pub addresses: Vec<String>,
}

/// Routes by recipient. The index is the place in the list it was made from.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    names: HashMap<String, usize>,
    addresses: HashMap<String, usize>,
    /// Exact domains without, parents with a leading dot.
    domains: HashMap<String, usize>,
    rest: Option<usize>,
}

impl Routes {
    /// From routes in order. An earlier one wins where two match alike.
    pub fn new(routes: &[RouteMatch]) -> Routes {
        let mut table = Routes::default();
        for (index, route) in routes.iter().enumerate() {
            table.names.entry(route.name.clone()).or_insert(index);
            for address in &route.addresses {
                table.addresses.entry(address.to_lowercase()).or_insert(index);
            }
            for domain in &route.domains {
                table.domains.entry(domain.to_lowercase()).or_insert(index);
            }
            if route.addresses.is_empty() && route.domains.is_empty() {
                table.rest.get_or_insert(index);
            }
        }
        table
    }

    /// The route for a recipient; `named` is what the policy said. `None` when no route takes it.
    pub fn choose(&self, recipient: &Mailbox, named: Option<&str>) -> Option<usize> {
        if let Some(index) = named.and_then(|name| self.names.get(name)) {
            return Some(*index);
        }
        if !self.addresses.is_empty()
            && let Some(index) = self.addresses.get(&recipient.lower())
        {
            return Some(*index);
        }
        self.by_domain(&recipient.host().lower()).or(self.rest)
    }

    /// Whether the policy may name this route.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn by_domain(&self, domain: &str) -> Option<usize> {
        if self.domains.is_empty() {
            return None;
        }
        let parents = domain.match_indices('.').map(|(at, _)| &domain[at..]);
        std::iter::once(domain).chain(parents).filter_map(|key| self.domains.get(key).copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::parse_mailbox;

    fn route(name: &str, domains: &[&str], addresses: &[&str]) -> RouteMatch {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        RouteMatch { name: name.into(), domains: owned(domains), addresses: owned(addresses) }
    }

    #[test]
    fn the_first_that_fits_best() {
        let routes = Routes::new(&[
            route("a", &["Example.org"], &[]),
            route("b", &[".example.org"], &["Boss@example.org"]),
            route("c", &["x.example.org", "[192.0.2.1]"], &[]),
            route("rest", &[], &[]),
        ]);
        let choose = |text: &str| routes.choose(&parse_mailbox(text).unwrap(), None);
        assert_eq!(choose("ann@EXAMPLE.org"), Some(0));
        assert_eq!(choose("boss@example.ORG"), Some(1));
        assert_eq!(choose("ann@deep.sub.example.org"), Some(1));
        assert_eq!(choose("ann@x.example.org"), Some(1), "the first in the file, not the longest");
        assert_eq!(choose("ann@[192.0.2.1]"), Some(2));
        assert_eq!(choose("ann@notexample.org"), Some(3));
        let ann = parse_mailbox("ann@example.org").unwrap();
        assert_eq!(routes.choose(&ann, Some("rest")), Some(3));
        assert_eq!(routes.choose(&ann, Some("gone")), Some(0), "an unknown name counts as none");
        assert!(routes.contains("c") && !routes.contains("gone"));
    }

    #[test]
    fn without_a_route_for_the_rest_there_may_be_none() {
        let routes = Routes::new(&[route("a", &["example.org"], &[])]);
        assert_eq!(routes.choose(&parse_mailbox("ann@example.com").unwrap(), None), None);
    }
}
