//! What a scenario has to say: a table for people, a line of JSON for programs.

use std::fmt::Write as _;

use std::time::Duration;

use serde_json::{Map, Number, Value};

use super::sequence::Faults;
use super::worker::Answers;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    scenario: &'static str,
    what: String,
    /// What was run, for programs.
    parameters: Vec<(&'static str, u64)>,
    /// What the second column is about, if there is one.
    beside: Option<&'static str>,
    figures: Vec<Figure>,
    faults: Faults,
    /// Why it was not run.
    skipped: Option<String>,
}

#[derive(Clone, Debug)]
struct Figure {
    /// Its name with its unit, as in `p99_us`.
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    value: f64,
    beside: Option<f64>,
}

impl Report {
    pub(super) fn new(scenario: &'static str, what: String) -> Report {
        Report {
            scenario,
            what,
            parameters: Vec::new(),
            beside: None,
            figures: Vec::new(),
            faults: Faults::default(),
            skipped: None,
        }
    }

    pub(super) fn skip(mut self, why: String) -> Report {
        self.skipped = Some(why);
        self
    }

    pub(super) fn parameter(&mut self, key: &'static str, value: u64) {
        self.parameters.push((key, value));
    }

    /// Names what the second column is.
    pub(super) fn beside(&mut self, name: &'static str) {
        self.beside = Some(name);
    }

    pub(super) fn figure(&mut self, key: &'static str, name: &'static str, unit: &'static str, value: f64) {
        self.figures.push(Figure { key, name, unit, value, beside: None });
    }

    /// A figure and the one that it is compared with.
    pub(super) fn compared(
        &mut self,
        key: &'static str,
        name: &'static str,
        unit: &'static str,
        value: f64,
        beside: f64,
    ) {
        self.figures.push(Figure { key, name, unit, value, beside: Some(beside) });
    }

    /// What calls came to that took so long together.
    pub(super) fn calls(&mut self, key: &'static str, name: &'static str, answers: &Answers, took: Duration) {
        self.figure(key, name, "", answers.count as f64 / took.as_secs_f64());
        self.figure("calls", "calls acknowledged", "", answers.count as f64);
        self.figure("call_p50_us", "acknowledgement, p50", "us", answers.times.percentile(50.0));
        self.figure("call_p99_us", "acknowledgement, p99", "us", answers.times.percentile(99.0));
        self.faults(&answers.faults);
    }

    pub(super) fn faults(&mut self, faults: &Faults) {
        self.faults.add(faults);
    }

    /// Whether everything came, once, in order, and every call was answered.
    pub fn is_clean(&self) -> bool {
        !self.faults.any()
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), self.scenario.into());
        for (key, value) in &self.parameters {
            object.insert((*key).to_owned(), (*value).into());
        }
        if let Some(why) = &self.skipped {
            object.insert("skipped".to_owned(), why.as_str().into());
            return Value::Object(object).to_string();
        }
        for Figure { key, value, beside, .. } in &self.figures {
            object.insert((*key).to_owned(), number(*value));
            if let (Some(beside), Some(name)) = (beside, self.beside) {
                let name = name.replace(' ', "_");
                object.insert(format!("{key}_{name}"), number(*beside));
                object.insert(format!("{key}_ratio"), number(value / beside));
            }
        }
        for (key, count) in self.faults.counts() {
            object.insert(key.to_owned(), count.into());
        }
        if let Some(example) = &self.faults.example {
            object.insert("example".to_owned(), example.as_str().into());
        }
        object.insert("clean".to_owned(), self.is_clean().into());
        Value::Object(object).to_string()
    }

    /// A table.
    pub fn table(&self) -> String {
        let mut table = format!("{}: {}\n", self.scenario, self.what);
        if let Some(why) = &self.skipped {
            let _ = writeln!(table, "  skipped: {why}\n");
            return table;
        }
        if let Some(beside) = self.beside {
            let _ = writeln!(table, "  {:<34}{:>16}{:>16}{:>9}", "", "", beside, "ratio");
        }
        for Figure { name, unit, value, beside, .. } in &self.figures {
            let _ = write!(table, "  {name:<34}{:>16}", shown(*value, unit));
            if let Some(beside) = beside {
                let _ = write!(table, "{:>16}{:>9}", shown(*beside, unit), shown(value / beside, ""));
            }
            table.push('\n');
        }
        let counts = self.faults.counts().map(|(key, count)| format!("{count} {}", key.replace('_', " ")));
        let _ = writeln!(table, "  {}", counts.join(", "));
        if let Some(example) = &self.faults.example {
            let _ = writeln!(table, "  for one: {example}");
        }
        table.push('\n');
        table
    }
}

fn number(value: f64) -> Value {
    // Whole numbers as such, others to three digits behind the point; what is none is null.
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}").parse().map_or(Value::Null, Value::Number);
    }
    Number::from_f64((value * 1e3).round() / 1e3).map_or(Value::Null, Value::Number)
}

/// A number with its unit, with as many digits as say something.
fn shown(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && digit.is_ascii_digit() && (whole.len() - at) % 3 == 0 && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let space = if unit.is_empty() { "" } else { " " };
    format!("{grouped}{rest}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_say_something() {
        for (value, expected) in [
            (0.0, "0"),
            (1.234_5, "1.23"),
            (12.345, "12.3"),
            (123.45, "123"),
            (1_234_567.8, "1,234,568"),
            (-123_456.7, "-123,457"),
            (1_000.0, "1,000"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(shown(value, ""), expected);
        }
        assert_eq!(shown(1.0, "us"), "1 us");
    }

    #[test]
    fn a_report_says_the_same_to_people_and_to_programs() {
        let mut report = Report::new("paced", "2 subscribers".to_owned());
        report.parameter("subscribers", 2);
        report.beside("floor");
        report.compared("p50_us", "delivery, p50", "us", 3.0, 2.0);
        report.figure("writes", "writes", "", 1_000.0);
        assert!(report.is_clean());
        report.faults(&Faults { lost: 1, example: Some("gone".to_owned()), ..Faults::default() });
        assert!(!report.is_clean());
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "scenario": "paced", "subscribers": 2, "p50_us": 3, "p50_us_floor": 2, "p50_us_ratio": 1.5,
                "writes": 1000, "lost": 1, "repeated": 0, "out_of_order": 0, "unanswered": 0, "wrong": 0,
                "disconnected": 0, "example": "gone", "clean": false,
            })
        );
        let table = report.table();
        for part in [
            "paced: 2 subscribers",
            "delivery, p50",
            "3 us",
            "2 us",
            "1.50",
            "1,000",
            "1 lost, 0 repeated",
            "gone",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
    }
}
