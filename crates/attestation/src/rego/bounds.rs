//! What keeps a policy within bounds: how deep its rules stand on each other, and built-in functions that are not the library's.

use std::collections::{BTreeMap, BTreeSet};

use regorus::{Engine, Value as Rego};
use serde_json::Value;

use super::PolicyError;

/// The most rules that stand on each other: with the parser's limit of nested expressions it bounds the interpreter's stack, which
/// does not look for functions that call themselves.
pub const MAX_DEPTH: usize = 32;

/// The most brackets inside each other: the parser's time grows with a power of them.
const MAX_NESTING: usize = 10;

/// Functions that read nothing of the policy's and can make more than fits into memory, or something else each time.
const REFUSED: [(&str, u8); 4] =
    [("numbers.range", 2), ("numbers.range_step", 3), ("bits.lsh", 2), ("rand.intn", 2)];

/// Which rules each rule names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Brackets stand inside each other at most [`MAX_NESTING`] deep; to be looked at before the parser does.
pub fn nesting(text: &str) -> Result<(), PolicyError> {
    let (mut depth, mut line) = (0_usize, 1_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let end = match character {
            '#' => '\n',
            '"' | '`' => character,
            _ => {
                match character {
                    '[' | '(' | '{' => depth = depth.saturating_add(1),
                    ']' | ')' | '}' => depth = depth.saturating_sub(1),
                    '\n' => line = line.saturating_add(1),
                    _ => {}
                }
                if depth > MAX_NESTING {
                    return Err(PolicyError::Nesting { line, most: MAX_NESTING });
                }
                continue;
            }
        };
        // A comment, or a text, of which the raw one has no escapes.
        while let Some(inner) = characters.next() {
            line = line.saturating_add(usize::from(inner == '\n'));
            match inner {
                '\\' if end == '"' => drop(characters.next()),
                inner if inner == end => break,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Rules stand on each other less than [`MAX_DEPTH`] deep, and nothing comes from another file.
pub fn check(engine: &Engine) -> Result<(), PolicyError> {
    let syntax = |message: String| PolicyError::Syntax { message };
    let text = engine.get_ast_as_json().map_err(|error| syntax(error.to_string()))?;
    let modules: Value = serde_json::from_str(&text)
        .map_err(|_| syntax("its expressions are nested too deep to be looked at".to_owned()))?;
    let module = modules.pointer("/0/ast").unwrap_or(&Value::Null);
    for import in list(module, "imports") {
        let mut path = Vec::new();
        components(&import["refr"], &mut path);
        if path.first() == Some(&"data") && path.get(1) != Some(&"reference") {
            return Err(PolicyError::Import(path.join(".")));
        }
    }
    let (mut graph, mut functions) = (Graph::new(), BTreeSet::new());
    for rule in list(module, "rules") {
        let Some(name) = rule.as_object().and_then(|rule| rule.values().next()).and_then(name) else {
            continue;
        };
        let named = graph.entry(name.to_owned()).or_default();
        match rule.pointer("/Spec/head/Func") {
            // All but its own name in the head.
            Some(head) => {
                functions.insert(name.to_owned());
                let parts = [head.get("args"), head.get("assign"), rule.pointer("/Spec/bodies")];
                parts.into_iter().flatten().for_each(|part| names(part, named));
            }
            None => names(rule, named),
        }
    }
    let defined: BTreeSet<String> = graph.keys().cloned().collect();
    for (rule, named) in &mut graph {
        // A rule that names itself is the interpreter's to refuse, or has a variable of its name; a function it does not refuse.
        named.retain(|name| defined.contains(name) && (name != rule || functions.contains(rule)));
    }
    let mut heights = BTreeMap::new();
    for rule in &defined {
        height(rule, 0, &graph, &mut heights)?;
    }
    Ok(())
}

fn list<'a>(node: &'a Value, name: &str) -> &'a [Value] {
    node.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The name of a rule, default or not.
fn name(rule: &Value) -> Option<&str> {
    let head = match rule.get("head") {
        Some(head) => head.as_object()?.values().next()?,
        None => rule,
    };
    let mut path = Vec::new();
    components(head.get("refr")?, &mut path);
    path.first().copied()
}

/// The parts of a reference that are known as they stand: `data.policy.f` and `data["policy"].f`.
fn components<'a>(node: &'a Value, path: &mut Vec<&'a str>) {
    if let Some(name) = node.pointer("/Var/value") {
        path.extend(name.as_str());
    } else if let Some(node) = node.get("RefDot") {
        components(&node["refr"], path);
        path.extend(node.pointer("/field/1").and_then(Value::as_str));
    } else if let Some(node) = node.get("RefBrack") {
        components(&node["refr"], path);
        path.extend(node.pointer("/index/String/value").and_then(Value::as_str));
    }
}

/// Every name that may be a rule's: each variable, and each part of a reference into `data`.
fn names(node: &Value, found: &mut BTreeSet<String>) {
    let mut path = Vec::new();
    components(node, &mut path);
    match path.first() {
        Some(&"data") => found.extend(path.into_iter().map(str::to_owned)),
        Some(name) => {
            found.insert((*name).to_owned());
        }
        None => {}
    }
    match node {
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(members) => members.values().for_each(|member| names(member, found)),
        _ => {}
    }
}

/// How many rules `rule` stands on, one upon the other; `level` stand on it.
fn height(
    rule: &str,
    level: usize,
    graph: &Graph,
    heights: &mut BTreeMap<String, usize>,
) -> Result<usize, PolicyError> {
    let refuse = || PolicyError::Depth { rule: rule.to_owned(), most: MAX_DEPTH };
    let known = heights.get(rule).copied();
    if level.saturating_add(known.unwrap_or(1)) > MAX_DEPTH {
        return Err(refuse());
    }
    if let Some(height) = known {
        return Ok(height);
    }
    let mut most = 0;
    for name in graph.get(rule).into_iter().flatten() {
        most = height(name, level.saturating_add(1), graph, heights)?.max(most);
    }
    let height = most.saturating_add(1);
    heights.insert(rule.to_owned(), height);
    Ok(height)
}

/// Puts functions in the place of built-in ones: the time is the one that evidence is judged at, and what has no bounds is refused.
pub fn replace_built_ins(engine: &mut Engine, at: u64) -> anyhow::Result<()> {
    let now = Rego::from(at.saturating_mul(1_000_000_000));
    engine.add_extension("time.now_ns".to_owned(), 0, Box::new(move |_: Vec<Rego>| Ok(now.clone())))?;
    for (name, parameters) in REFUSED {
        let refuse = move |_: Vec<Rego>| Err(anyhow::anyhow!("`{name}` is not available here"));
        engine.add_extension(name.to_owned(), parameters, Box::new(refuse))?;
    }
    Ok(())
}
