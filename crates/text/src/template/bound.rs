//! What a value may weigh. Values share their parts, so that one which is small in memory may be endless when it is compared, printed
//! or walked (`[a, a]` of `[b, b]` of ..), and a namespace may even hold itself. minijinja pays for the parts that an instruction adds
//! and not for what hangs on them. So instructions are put in beside its own, which make every value that holds others cost as much as
//! if all of it were made anew, and let none hold a namespace, so that there are no cycles. Lists that are only promised (slices, sums,
//! repetitions, results of filters) are made.

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

/// Names that no template can write.
const CHECK: &str = "\0check";
const MAKE: &str = "\0make";
const KEEP: &str = "\0keep";
/// How deep values may be nested: comparing, printing and dropping them recurses as deep.
const MAX_DEPTH: usize = 128;
/// Bytes that a unit of fuel pays for, as minijinja has it.
const BYTES: usize = 64;
/// Filters that compare what they are given.
const COMPARING: [&str; 6] = ["dictsort", "groupby", "max", "min", "sort", "unique"];
/// Digits of a number in a text for `format`: a width is paid for only after it was filled.
const MAX_WIDTH: usize = 3;

/// Adds what [`bounded`] calls, and takes away what is not Jinja's and cannot be bounded.
pub(super) fn prepare(environment: &mut Environment) {
    environment.add_function(CHECK, |state: &State, value: Value| weigh(state, &value, 0));
    environment.add_function(MAKE, make);
    environment.add_function(KEEP, |state: &State, value: Value| match is_namespace(&value) {
        true => Err(refused("a namespace inside a namespace")),
        false => weigh(state, &value, 0),
    });
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.remove_global("debug");
    environment.set_unknown_method_callback(|state, value, method, args| {
        if method == "format" && value.as_str().is_some_and(is_wide) {
            return Err(refused("a format with a wide or a computed field"));
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
}

/// Whether a text for `format` may make much of little.
fn is_wide(format: &str) -> bool {
    let number = format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MAX_WIDTH);
    let nested = format.split('{').skip(1).any(|field| !field.is_empty() && !field.contains('}'));
    number || nested
}

/// Pays for all that hangs on `value` as if it were made anew. The value itself is paid for already where it holds nothing.
pub(super) fn weigh(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Bytes if depth > 0 => {
            let bytes = value.as_str().map(str::len).or_else(|| value.as_bytes().map(<[u8]>::len));
            state.consume_fuel((bytes.unwrap_or(0) / BYTES) as u64)
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            if depth > 0 && is_namespace(value) {
                return Err(refused("a namespace inside a value"));
            }
            if depth >= MAX_DEPTH {
                return Err(refused("a value nested too deep"));
            }
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                if value.kind() == ValueKind::Map {
                    weigh(state, &value.get_item(&item)?, depth.saturating_add(1))?;
                }
                weigh(state, &item, depth.saturating_add(1))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The value, with a list made that was only promised.
fn make(state: &State, value: Value) -> Result<Value, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        weigh(state, &value, 0)?;
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        weigh(state, &item, 1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// The instructions of `template` with the checks put in.
pub(super) fn bounded<'a>(template: &CompiledTemplate<'a>) -> Instructions<'a> {
    let source = &template.instructions;
    let mut bounded = Instructions::new(source.name(), source.source());
    // Where each instruction has gone, with what is put in before it.
    let mut places = Vec::new();
    let mut index = 0;
    while let Some(instruction) = source.get(index) {
        let (before, after) = beside(instruction);
        let all = before.iter().chain([instruction]).chain(after);
        places.push(place(&mut bounded, all, source, index));
        index = index.saturating_add(1);
    }
    places.push(bounded.add(Instruction::LoadConst(Value::UNDEFINED)));
    for index in 0..places.last().copied().unwrap_or(0) {
        if let Some(
            Instruction::Jump(to)
            | Instruction::JumpIfFalse(to)
            | Instruction::JumpIfFalseOrPop(to)
            | Instruction::JumpIfTrueOrPop(to)
            | Instruction::Iterate(to)
            | Instruction::BuildMacro(_, to, _),
        ) = bounded.get_mut(index)
        {
            *to = places.get(*to as usize).copied().unwrap_or(u32::MAX);
        }
    }
    bounded
}

/// Adds these instructions in the place of one; gives the first one's index.
fn place<'a, 'b>(
    to: &mut Instructions<'a>,
    all: impl Iterator<Item = &'b Instruction<'a>>,
    from: &Instructions<'a>,
    index: u32,
) -> u32
where
    'a: 'b,
{
    let line = from.get_line(index).and_then(|line| u16::try_from(line).ok()).unwrap_or(u16::MAX);
    let mut first = None;
    for instruction in all {
        let at = to.add_with_line(instruction.clone(), line);
        first = first.or(Some(at));
    }
    first.unwrap_or(u32::MAX)
}

/// What stands before and after an instruction.
fn beside(instruction: &Instruction) -> (&'static [Instruction<'static>], &'static [Instruction<'static>]) {
    use Instruction::{CallFunction, DiscardTop, DupTop, Swap};
    static TOP: [Instruction<'static>; 3] = [DupTop, CallFunction(CHECK, Some(1)), DiscardTop];
    static SECOND: [Instruction<'static>; 5] = [Swap, DupTop, CallFunction(CHECK, Some(1)), DiscardTop, Swap];
    static BOTH: [Instruction<'static>; 8] = [
        DupTop,
        CallFunction(CHECK, Some(1)),
        DiscardTop,
        Swap,
        DupTop,
        CallFunction(CHECK, Some(1)),
        DiscardTop,
        Swap,
    ];
    static KEPT: [Instruction<'static>; 5] = [Swap, DupTop, CallFunction(KEEP, Some(1)), DiscardTop, Swap];
    static MADE: [Instruction<'static>; 1] = [CallFunction(MAKE, Some(1))];
    match instruction {
        Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) => (&[], &TOP),
        Instruction::ApplyFilter(name, Some(1), _) if COMPARING.contains(name) => (&TOP, &MADE),
        Instruction::ApplyFilter(name, Some(2), _) if COMPARING.contains(name) => (&SECOND, &MADE),
        Instruction::Add
        | Instruction::Mul
        | Instruction::Slice
        | Instruction::ApplyFilter(..)
        | Instruction::CallFunction(..)
        | Instruction::CallMethod(..)
        | Instruction::CallObject(..) => (&[], &MADE),
        // One side is enough: no comparison looks further than the lesser side goes.
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::In
        | Instruction::CompareAndPreserve(_)
        | Instruction::PerformTest(_, Some(2), _) => (&SECOND, &[]),
        Instruction::StringConcat => (&BOTH, &[]),
        Instruction::SetAttr(_) => (&KEPT, &[]),
        _ => (&[], &[]),
    }
}
