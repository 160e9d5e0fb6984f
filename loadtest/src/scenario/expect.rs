//! Expectations: `lost = 0`, `legitimate.p99 < 50 ms and bots.refused_share > 90 %`, over the numbers of a result.
//!
//! A comparison is `sum OP sum` with `= != < <= > >=`; sums and products of numbers, names and parentheses; `and` and
//! `or` between comparisons, `and` first. Units: `ms`, `s`, `min` (all become milliseconds), `KiB`, `MiB`, `%`. Nothing is
//! known of a name here but that it is one; whoever evaluates looks it up.
//!
//! How it fails: [`Wrong`] names the octet and what was expected there; an unknown name at evaluation is an error by
//! name, and the expectation does not hold.

use std::ops::Range;

/// What is wrong with an expression, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Octets of the expression.
    pub at: Range<usize>,
    /// What was expected there.
    pub expected: String,
}

/// An expression that is either true or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// As it was written.
    pub text: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Compare(Sum, Relation, Sum),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Sum {
    Number(f64),
    /// A time in milliseconds, which a slow machine may stretch.
    Time(f64),
    Name(String, Range<usize>),
    Operation(Box<Sum>, char, Box<Sum>),
}

/// Parentheses within each other.
const DEPTH_MAX: usize = 32;

/// Numbers that are equal but for what arithmetic does to them.
const EQUAL_WITHIN: f64 = 1e-9;

impl Expectation {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Expectation, Wrong> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let condition = parser.either()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.wrong("and, or, or the end"));
        }
        Ok(Expectation { text: text.trim().to_owned(), condition })
    }

    /// Every name in it, with its place.
    pub fn names(&self) -> Vec<(&str, Range<usize>)> {
        let mut names = Vec::new();
        self.condition.names(&mut names);
        names
    }

    /// Whether it holds, and the numbers it depends on; times in it are stretched by `slack`.
    pub fn evaluate(
        &self,
        slack: f64,
        look_up: &dyn Fn(&str) -> Option<f64>,
    ) -> Result<(bool, Vec<(String, f64)>), String> {
        let holds = self.condition.evaluate(slack, look_up)?;
        let mut found: Vec<(String, f64)> = Vec::new();
        for (name, _) in self.names() {
            if let Some(value) = look_up(name)
                && !found.iter().any(|(known, _)| known == name)
            {
                found.push((name.to_owned(), value));
            }
        }
        Ok((holds, found))
    }
}

impl Condition {
    fn names<'a>(&'a self, into: &mut Vec<(&'a str, Range<usize>)>) {
        match self {
            Condition::And(a, b) | Condition::Or(a, b) => {
                a.names(into);
                b.names(into);
            }
            Condition::Compare(a, _, b) => {
                a.names(into);
                b.names(into);
            }
        }
    }

    fn evaluate(&self, slack: f64, look_up: &dyn Fn(&str) -> Option<f64>) -> Result<bool, String> {
        Ok(match self {
            // Both sides are looked at, so that a misspelt name is found whatever the other side says.
            Condition::And(a, b) => a.evaluate(slack, look_up)? & b.evaluate(slack, look_up)?,
            Condition::Or(a, b) => a.evaluate(slack, look_up)? | b.evaluate(slack, look_up)?,
            Condition::Compare(a, relation, b) => {
                let (a, b) = (a.evaluate(slack, look_up)?, b.evaluate(slack, look_up)?);
                let equal = (a - b).abs() <= EQUAL_WITHIN * a.abs().max(b.abs()).max(1.0);
                match relation {
                    Relation::Equal => equal,
                    Relation::Unequal => !equal,
                    Relation::Less => a < b && !equal,
                    Relation::LessOrEqual => a < b || equal,
                    Relation::Greater => a > b && !equal,
                    Relation::GreaterOrEqual => a > b || equal,
                }
            }
        })
    }
}

impl Sum {
    fn names<'a>(&'a self, into: &mut Vec<(&'a str, Range<usize>)>) {
        match self {
            Sum::Name(name, at) => into.push((name, at.clone())),
            Sum::Operation(a, _, b) => {
                a.names(into);
                b.names(into);
            }
            Sum::Number(_) | Sum::Time(_) => {}
        }
    }

    fn evaluate(&self, slack: f64, look_up: &dyn Fn(&str) -> Option<f64>) -> Result<f64, String> {
        Ok(match self {
            Sum::Number(n) => *n,
            Sum::Time(ms) => ms * slack,
            Sum::Name(name, _) => look_up(name).ok_or_else(|| format!("{name} was not measured"))?,
            Sum::Operation(a, sign, b) => {
                let (a, b) = (a.evaluate(slack, look_up)?, b.evaluate(slack, look_up)?);
                match sign {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    _ => a / b,
                }
            }
        })
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
    fn take(&mut self, word: &str) -> bool {
        self.space();
        let here = self.rest().starts_with(word);
        self.at += if here { word.len() } else { 0 };
        here
    }
    /// A word of letters, which must not go on behind it.
    fn take_word(&mut self, word: &str) -> bool {
        self.space();
        let whole = self.rest().strip_prefix(word).is_some_and(|r| !r.starts_with(in_name));
        whole && self.take(word)
    }
    fn wrong(&self, expected: &str) -> Wrong {
        let end = self.rest().find(char::is_whitespace).map_or(self.text.len(), |n| self.at + n);
        Wrong { at: self.at..end.max(self.at), expected: expected.to_owned() }
    }

    fn either(&mut self) -> Result<Condition, Wrong> {
        let mut left = self.both()?;
        while self.take_word("or") {
            left = Condition::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Condition, Wrong> {
        let mut left = self.compare()?;
        while self.take_word("and") {
            left = Condition::And(Box::new(left), Box::new(self.compare()?));
        }
        Ok(left)
    }

    fn compare(&mut self) -> Result<Condition, Wrong> {
        let left = self.sum()?;
        // The longer ones first.
        const RELATIONS: [(&str, Relation); 7] = [
            ("<=", Relation::LessOrEqual),
            (">=", Relation::GreaterOrEqual),
            ("!=", Relation::Unequal),
            ("==", Relation::Equal),
            ("=", Relation::Equal),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ];
        match RELATIONS.iter().find(|(word, _)| self.take(word)) {
            Some((_, relation)) => Ok(Condition::Compare(left, *relation, self.sum()?)),
            None => Err(self.wrong("=, !=, <, <=, > or >=")),
        }
    }

    fn sum(&mut self) -> Result<Sum, Wrong> {
        let mut left = self.product()?;
        while let Some(sign) = ['+', '-'].into_iter().find(|s| self.take(&s.to_string())) {
            left = Sum::Operation(Box::new(left), sign, Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Sum, Wrong> {
        let mut left = self.atom()?;
        while let Some(sign) = ['*', '/'].into_iter().find(|s| self.take(&s.to_string())) {
            left = Sum::Operation(Box::new(left), sign, Box::new(self.atom()?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Sum, Wrong> {
        self.space();
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            let length = self.rest().find(|c| !in_name(c)).unwrap_or(self.rest().len());
            let name = self.rest()[..length].to_owned();
            self.at += length;
            return Ok(Sum::Name(name, self.at - length..self.at));
        }
        if self.depth < DEPTH_MAX && self.take("(") {
            self.depth += 1;
            let inner = self.sum()?;
            self.depth -= 1;
            return if self.take(")") { Ok(inner) } else { Err(self.wrong(")")) };
        }
        Err(self.wrong("a number, a name or ("))
    }

    fn number(&mut self) -> Result<Sum, Wrong> {
        let length = self.rest().find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest().len());
        let Ok(number) = self.rest()[..length].parse::<f64>() else { return Err(self.wrong("a number such as 1.5")) };
        self.at += length;
        if self.take("%") {
            return Ok(Sum::Number(number / 100.0));
        }
        for (unit, factor) in [("ms", 1.0), ("s", 1000.0), ("min", 60_000.0)] {
            if self.take_word(unit) {
                return Ok(Sum::Time(number * factor));
            }
        }
        for (unit, factor) in [("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)] {
            if self.take_word(unit) {
                return Ok(Sum::Number(number * factor));
            }
        }
        Ok(Sum::Number(number))
    }
}

/// Client names may contain hyphens, so a minus between names wants spaces around it.
fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(name: &str) -> Option<f64> {
        match name {
            "lost" => Some(0.0),
            "good.p99_ms" => Some(40.0),
            "bots.refused" => Some(95.0),
            "bots.accepted" => Some(5.0),
            _ => None,
        }
    }

    fn holds(text: &str) -> bool {
        Expectation::parse(text).unwrap().evaluate(1.0, &look_up).unwrap().0
    }

    #[test]
    fn what_holds_and_what_does_not() {
        for (text, expected) in [
            ("lost = 0", true),
            ("lost == 0 and good.p99_ms < 50 ms", true),
            ("good.p99_ms < 0.03 s", false),
            ("good.p99_ms<=40", true),
            ("good.p99_ms > 40", false),
            ("bots.refused / (bots.refused + bots.accepted) >= 95 %", true),
            ("lost != 0 or good.p99_ms < 1 min and lost = 0", true),
            ("bots.refused - bots.accepted * 2 = 85", true),
            ("2 * 3 + 4 = 10 and 2 + 3 * 4 = 14", true),
            ("1 KiB = 1024", true),
            ("1 - 0.9 = 0.1", true),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_slow_machine_gets_time_and_nothing_else() {
        let e = Expectation::parse("good.p99_ms < 30 ms").unwrap();
        assert!(!e.evaluate(1.0, &look_up).unwrap().0);
        assert_eq!(e.evaluate(2.0, &look_up).unwrap(), (true, vec![("good.p99_ms".to_owned(), 40.0)]));
        let e = Expectation::parse("bots.refused < 90").unwrap();
        assert!(!e.evaluate(100.0, &look_up).unwrap().0);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, at, expected) in [
            ("lost", 4..4, "=, !="),
            ("lost = ", 7..7, "a number"),
            ("lost = 0 also", 9..13, "and, or"),
            ("(lost = 0", 6..7, ")"),
            ("lost = 1.2.3", 7..12, "a number such as 1.5"),
            ("= 0", 0..1, "a number, a name"),
        ] {
            let wrong = Expectation::parse(text).unwrap_err();
            assert!(wrong.at == at && wrong.expected.contains(expected), "{text}: {wrong:?}");
        }
        assert!(Expectation::parse(&"(".repeat(1000)).is_err());
        let unknown = Expectation::parse("lost = 1 and what = 0").unwrap();
        assert_eq!(unknown.evaluate(1.0, &look_up).unwrap_err(), "what was not measured");
    }
}
