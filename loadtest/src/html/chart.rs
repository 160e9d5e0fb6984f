//! Charts as SVG: latency by percentile on logarithmic axes, lines over time.
//!
//! Colours are classes of the page's style, so that light and dark are the page's business. How it fails: a chart
//! without a point is nothing at all.

use super::page::escape;
use std::fmt::Write as _;

/// A series: its name, which colour, whether it is drawn broken (the second of two results), its points.
pub struct Series<'a> {
    /// Name in the legend.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Whether it belongs to the second result.
    pub second: bool,
    /// Points by growing x.
    pub points: &'a [(f64, f64)],
}

/// Colours that the page has.
pub const COLOURS: usize = 8;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 36.0;
/// Points of one line that are drawn; more are not seen.
const POINTS_MAX: usize = 2000;

/// An axis: what stands where.
#[derive(Clone, Copy)]
enum Scale {
    Linear(f64, f64),
    Logarithmic(f64, f64),
}

impl Scale {
    /// 0 to 1.
    fn place(self, value: f64) -> f64 {
        let (value, low, high) = match self {
            Scale::Linear(low, high) => (value, low, high),
            Scale::Logarithmic(low, high) => (value.max(low).log10(), low.log10(), high.log10()),
        };
        if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// Latency by percentile: x is how rare (half, one in ten, one in a hundred, …), y milliseconds, both logarithmic.
pub fn percentiles(series: &[Series<'_>]) -> String {
    let rare: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|s| {
            // The faster half is one point at most: nobody waits for it.
            let slower = s.points.iter().filter(|(share, _)| *share >= 0.5);
            slower.map(|(share, ms)| (1.0 / (1.0 - share).max(1e-9), ms.max(0.001))).collect()
        })
        .collect();
    let all = || rare.iter().flatten();
    let Some((low, high)) = range(all().map(|p| p.1)) else { return String::new() };
    let rarest = all().map(|p| p.0).fold(100.0, f64::max);
    let y = Scale::Logarithmic(power_below(low), power_above(high));
    let x = Scale::Logarithmic(2.0, rarest);
    let mut marks = vec![(2.0, "50 %".to_owned())];
    let mut one_in = 10.0;
    while one_in <= rarest * 1.001 && marks.len() < 9 {
        let nines = one_in.log10().round() as usize;
        let text = if nines < 2 {
            "90 %".to_owned()
        } else {
            format!("99{}{} %", if nines > 2 { "." } else { "" }, "9".repeat(nines - 2))
        };
        marks.push((one_in, text));
        one_in *= 10.0;
    }
    let curves: Vec<Series<'_>> = series
        .iter()
        .zip(&rare)
        .map(|(s, points)| Series { name: s.name.clone(), colour: s.colour, second: s.second, points })
        .collect();
    let ticks = powers(power_below(low), power_above(high))
        .into_iter()
        .map(|v| (v, format!("{} ms", short(v))))
        .collect::<Vec<_>>();
    draw(&curves, x, y, &marks, &ticks, true, "faster than this share", |x, y| {
        format!("{:.4} % are faster than {} ms", (1.0 - 1.0 / x) * 100.0, short(y))
    })
}

/// Lines over time or over the rate, from zero.
pub fn lines(series: &[Series<'_>], x_name: &str) -> String {
    let all = || series.iter().flat_map(|s| s.points.iter());
    let (Some((x_low, x_high)), Some((_, high))) = (range(all().map(|p| p.0)), range(all().map(|p| p.1))) else {
        return String::new();
    };
    let step = round_step(high.max(1e-9) / 4.0);
    let top = (high / step).ceil().max(1.0) * step;
    let ticks: Vec<(f64, String)> =
        (0..=(top / step).round() as usize).map(|n| (n as f64 * step, short(n as f64 * step))).collect();
    let x_step = round_step((x_high - x_low).max(1e-9) / 6.0);
    let first = (x_low / x_step).ceil();
    let marks: Vec<(f64, String)> = (0..=((x_high / x_step).floor() - first).max(0.0) as usize)
        .map(|n| ((first + n as f64) * x_step, short((first + n as f64) * x_step)))
        .collect();
    let (x, y) = (Scale::Linear(x_low, x_high), Scale::Linear(0.0, top));
    draw(series, x, y, &marks, &ticks, false, x_name, |x, y| format!("{}: {}", short(x), short(y)))
}

/// Height of a bar with its gap, and of the space for a job's name.
const BAR: f64 = 22.0;
/// Where bars begin: right of the servers' names.
const BAR_LEFT: f64 = 150.0;
/// Bars end here, so that the longest one's number has room.
const BAR_RIGHT: f64 = WIDTH - 110.0;

/// A bar: name, colour, whether it belongs to the second result, value.
pub struct Bar {
    /// Whose.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Whether it belongs to the second result.
    pub second: bool,
    /// Length.
    pub value: f64,
}

/// Bars below each other, on a logarithmic scale when the longest is more than thirty times the shortest.
pub fn bars(bars: &[Bar]) -> String {
    let Some((low, high)) = range(bars.iter().map(|b| b.value).filter(|v| *v > 0.0)) else { return String::new() };
    let logarithmic = high > 30.0 * low;
    let scale = if logarithmic { Scale::Logarithmic(power_below(low) / 2.0, high) } else { Scale::Linear(0.0, high) };
    let height = BAR * bars.len() as f64 + if logarithmic { 18.0 } else { 4.0 };
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    // Writing to a String does not fail.
    if logarithmic {
        for v in powers(power_below(low), high) {
            let at = BAR_LEFT + scale.place(v) * (BAR_RIGHT - BAR_LEFT);
            let bottom = height - 16.0;
            let _ = write!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom}\"/>");
            let _ =
                write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", height - 4.0, short(v));
        }
    }
    for (n, bar) in bars.iter().enumerate() {
        let top = BAR * n as f64 + 3.0;
        let length = (scale.place(bar.value) * (BAR_RIGHT - BAR_LEFT)).max(1.0);
        let (name, value) = (escape(&bar.name), short(bar.value));
        let class = format!("c{}{}", bar.colour % COLOURS, if bar.second { " second" } else { "" });
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text><g class=\"bar {class}\"><rect x=\"{BAR_LEFT}\" \
             y=\"{top:.1}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"><title>{name}: {value}</title></rect></g>\
             <text x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
            BAR_LEFT - 8.0,
            top + 12.0,
            BAR - 6.0,
            BAR_LEFT + length + 6.0,
            top + 12.0
        );
    }
    svg.push_str("</svg>");
    if logarithmic {
        svg.push_str("<p class=\"legend\"><small>logarithmic</small></p>");
    }
    svg
}

#[allow(clippy::too_many_arguments, reason = "the two kinds of charts differ in exactly these")]
fn draw(
    series: &[Series<'_>],
    x: Scale,
    y: Scale,
    marks: &[(f64, String)],
    ticks: &[(f64, String)],
    dots: bool,
    x_name: &str,
    tell: impl Fn(f64, f64) -> String,
) -> String {
    let across = |v: f64| LEFT + x.place(v) * (WIDTH - LEFT - RIGHT);
    let up = |v: f64| HEIGHT - BOTTOM - y.place(v) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    // Writing to a String does not fail.
    for (value, text) in ticks {
        let at = up(*value);
        let _ = write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ =
            write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, at + 4.0, escape(text));
    }
    for (value, text) in marks {
        let at = across(*value);
        let _ = write!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ =
            write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 16.0, escape(text));
    }
    let _ = write!(svg, "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>", HEIGHT - 4.0, escape(x_name));
    for s in series.iter().filter(|s| !s.points.is_empty()) {
        let class = format!("c{}{}", s.colour % COLOURS, if s.second { " second" } else { "" });
        let _ = write!(svg, "<g class=\"series {class}\" data-name=\"{}\"><polyline points=\"", escape(&s.name));
        let step = s.points.len().div_ceil(POINTS_MAX).max(1);
        for (vx, vy) in s.points.iter().step_by(step) {
            let _ = write!(svg, "{:.1},{:.1} ", across(*vx), up(*vy));
        }
        svg.push_str("\"/>");
        for (vx, vy) in s.points.iter().filter(|_| dots || s.points.len() <= 60) {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{}: {}</title></circle>",
                across(*vx),
                up(*vy),
                escape(&s.name),
                escape(&tell(*vx, *vy))
            );
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg><p class=\"legend\">");
    for s in series.iter().filter(|s| !s.points.is_empty()) {
        let second = if s.second { " second" } else { "" };
        let name = escape(&s.name);
        let _ = write!(
            svg,
            "<button class=\"c{}{second}\" data-name=\"{name}\"><i></i>{name}</button>",
            s.colour % COLOURS
        );
    }
    svg.push_str("</p>");
    svg
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    })
}

fn power_below(value: f64) -> f64 {
    10f64.powf(value.log10().floor())
}

fn power_above(value: f64) -> f64 {
    let above = 10f64.powf(value.log10().ceil());
    if above > power_below(value) { above } else { above * 10.0 }
}

fn powers(low: f64, high: f64) -> Vec<f64> {
    (0..20).map(|n| low * 10f64.powi(n)).take_while(|v| *v <= high * 1.001).collect()
}

/// 1, 2 or 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = power_below(step);
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|s| *s >= step * 0.999).unwrap_or(power * 10.0)
}

/// A number as people write it.
pub fn short(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!((round_step(0.24), round_step(3.1), round_step(70.0)), (0.5, 5.0, 100.0));
        assert_eq!((power_below(0.5), power_above(0.5), power_above(1.0)), (0.1, 1.0, 10.0));
        assert_eq!(powers(0.1, 10.0).len(), 3);
        for (value, text) in
            [(0.0, "0"), (0.125, "0.125"), (1.50, "1.5"), (12.0, "12"), (1234.5, "1234"), (100.0, "100")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |name: &str, value| Bar { name: name.into(), colour: 0, second: false, value };
        let lengths = |svg: &str| -> Vec<f64> {
            svg.split("width=\"").skip(1).map(|w| w.split('"').next().unwrap().parse().unwrap()).collect()
        };
        let linear = lengths(&bars(&[bar("a<b", 10.0), bar("c", 20.0)]));
        assert!((linear[1] / linear[0] - 2.0).abs() < 0.01, "{linear:?}");
        let svg = bars(&[bar("a<b", 10.0), bar("c", 1000.0)]);
        assert!(svg.contains("a&lt;b") && svg.contains(">1000<"), "{svg}");
        let powers = lengths(&svg);
        assert!(powers[1] / powers[0] < 20.0 && powers[1] > powers[0], "{powers:?}");
        assert_eq!(bars(&[]), "");
        assert_eq!(bars(&[bar("nothing", 0.0)]), "");
    }

    #[test]
    fn points_stand_inside_and_in_order() {
        let points = [(0.5, 1.0), (0.9, 10.0), (0.99, 100.0)];
        let svg = percentiles(&[Series { name: "a<b".into(), colour: 1, second: false, points: &points }]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        let line = svg.split("polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
        let places: Vec<(f64, f64)> = line
            .split_whitespace()
            .map(|p| p.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert!(places.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 > w[1].1), "{places:?}");
        assert!(places.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y)));
        for text in ["50 %", "90 %", "99 %", "1 ms", "100 ms"] {
            assert!(svg.contains(&format!(">{text}<")), "{text}: {svg}");
        }
        assert_eq!(percentiles(&[]), "");
        assert_eq!(lines(&[], "x"), "");
        let flat =
            lines(&[Series { name: "z".into(), colour: 0, second: true, points: &[(0.0, 0.0), (5.0, 0.0)] }], "s");
        assert!(flat.contains("second") && !flat.contains("NaN") && !flat.contains("inf"), "{flat}");
    }
}
