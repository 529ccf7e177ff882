//! The text of a file with its edits.
//!
//! Each alternative begins with a comment that has its numbers, `/*mutants 7,8*/`, on a line of its own: an error of the
//! compiler behind it is theirs, down to the next comment.

use super::find::{Edit, Kind, Mutant};
use std::cmp::Reverse;
use std::ops::Range;

/// `source` with all edits, which lie within each other or apart.
pub fn file(source: &str, mut edits: Vec<Edit>) -> String {
    // Outer ones before inner ones, and what is put in before what begins there.
    edits.sort_by_key(|edit| {
        let Range { start, end } = edit.range;
        (start, start != end, Reverse(end), !matches!(edit.kind, Kind::ArmWithGuard(_)))
    });
    render(source, 0..source.len(), &edits.iter().collect::<Vec<_>>())
}

fn render(source: &str, range: Range<usize>, edits: &[&Edit]) -> String {
    let (mut out, mut at, mut next) = (String::new(), range.start, 0);
    while let Some(edit) = edits.get(next) {
        let inner = edits[next + 1..].iter().take_while(|inner| is_within(&inner.range, &edit.range)).count();
        let inside = &edits[next + 1..][..if edit.range.is_empty() { 0 } else { inner }];
        out += &source[at..edit.range.start];
        out += &changed(source, edit, inside);
        at = edit.range.end;
        next += 1 + inside.len();
    }
    out + &source[at..range.end]
}

fn is_within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The text of one edit; what is `inside` is changed in the original alone, since one mutant is on at a time.
fn changed(source: &str, edit: &Edit, inside: &[&Edit]) -> String {
    let original = |range: &Range<usize>| {
        let mine: Vec<&Edit> = inside.iter().copied().filter(|inner| is_within(&inner.range, range)).collect();
        render(source, range.clone(), &mine)
    };
    let plain = |range: &Range<usize>| &source[range.clone()];
    match &edit.kind {
        Kind::Binary { left, right, assigns, mutants } => {
            let [open, close] = if *assigns { ["{", "}"] } else { ["(", ")"] };
            let (operator, numbers) = (&source[left.end..right.start], numbers(mutants));
            let mut out = format!("{open}match crate::mutant::pick(&[{numbers}]) {{\n0 => {{\n/*mutants {numbers}*/ ");
            out += &format!("{}{operator}{}\n}}\n", original(left), original(right));
            for (place, mutant) in mutants.iter().enumerate() {
                let pattern = if place + 1 == mutants.len() { "_".to_string() } else { (place + 1).to_string() };
                let Mutant { number, replacement, .. } = mutant;
                let (left, right) = (plain(left), plain(right));
                out += &format!("{pattern} => {{\n/*mutants {number}*/ ({left}) {replacement} ({right})\n}}\n");
            }
            format!("{out}}}/*mutants*/{close}")
        }
        Kind::Unary { operand, mutants } => {
            let (numbers, operator) = (numbers(mutants), &source[edit.range.start..operand.start]);
            let (without, with) = (plain(operand), original(operand));
            format!(
                "(if crate::mutant::on({numbers}) {{\n/*mutants {numbers}*/ {without}\n}} else {{\n\
                 /*mutants {numbers}*/ {operator}{with}\n}}/*mutants*/)"
            )
        }
        Kind::Body(mutants) => {
            let at_once = |Mutant { number, replacement, .. }: &Mutant| {
                format!("\n/*mutants {number}*/ if crate::mutant::on({number}) {{ return {replacement}; }}")
            };
            mutants.iter().map(at_once).collect::<String>() + "\n/*mutants*/"
        }
        Kind::Arm(mutants) => format!(" if !crate::mutant::on({})", numbers(mutants)),
        Kind::ArmWithGuard(mutants) => {
            format!("!crate::mutant::on({}) && ({})", numbers(mutants), original(&edit.range))
        }
        Kind::Guard(mutants) => {
            let instead = |Mutant { number, replacement, .. }: &Mutant| {
                format!("if crate::mutant::on({number}) {{ {replacement} }} else ")
            };
            let instead: String = mutants.iter().map(instead).collect();
            format!("({instead}{{ {} }})", original(&edit.range))
        }
    }
}

fn numbers(mutants: &[Mutant]) -> String {
    mutants.iter().map(|mutant| mutant.number.to_string()).collect::<Vec<_>>().join(",")
}
