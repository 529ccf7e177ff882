//! All mutants of some files in one build: which one is on is said at run time.
//!
//! `subgpt-mutants MUTANTS.json ROOT LEFT_OUT.json` rewrites the sources under ROOT in place. MUTANTS.json is what
//! `cargo mutants --list --json` names; a mutant's number is its place there, from 1 on. An operator becomes a choice
//! between itself and its mutants, a function begins with a question, an arm of a match gets a guard:
//!
//! ```text
//! a + b     ->  (match crate::mutant::pick(&[7, 8]) { 0 => a + b, 1 => a - b, _ => a * b })
//! fn f() {  ->  fn f() { if crate::mutant::on(9) { return Ok(()); }
//! ```
//!
//! LEFT_OUT.json has the numbers of those that do not compile. Printed are, as JSON, the numbers that cannot be had so:
//! constants and what constants are made of, fields that are left out. Building for each mutant anew, as cargo-mutants
//! does, takes half a minute each here; this takes one build (Untch et al., "Mutation analysis using mutant schemata",
//! 1993).

mod find;
mod render;

use find::Mutant;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::path::Path;

/// An entry of what cargo-mutants lists.
#[derive(Deserialize)]
struct Listed {
    file: String,
    genre: String,
    replacement: String,
    span: Span,
}

#[derive(Deserialize)]
struct Span {
    start: Place,
}

#[derive(Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let [list, root, left_out] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(
            |_| "give three arguments: what cargo mutants lists, the sources, the numbers that are left out",
        )?;
    let listed: Vec<Listed> = serde_json::from_str(&std::fs::read_to_string(list)?)?;
    let left_out: HashSet<usize> = serde_json::from_str(&std::fs::read_to_string(left_out)?)?;
    let mut files: BTreeMap<String, Vec<Mutant>> = BTreeMap::new();
    for (number, one) in (1..).zip(listed) {
        if !left_out.contains(&number) {
            let Listed { file, genre, replacement, span: Span { start } } = one;
            let mutant = Mutant { number, genre, replacement, line: start.line, column: start.column };
            files.entry(file).or_default().push(mutant);
        }
    }
    let mut missed = Vec::new();
    for (file, mutants) in files {
        let path = Path::new(&root).join(file);
        let source = std::fs::read_to_string(&path)?;
        let edits = find::edits(&syn::parse_file(&source)?, &mutants);
        let found: HashSet<usize> = edits.iter().flat_map(|edit| edit.numbers()).collect();
        missed.extend(mutants.iter().map(|mutant| mutant.number).filter(|number| !found.contains(number)));
        std::fs::write(path, render::file(&source, edits))?;
    }
    println!("{}", serde_json::to_string(&missed)?);
    Ok(())
}
