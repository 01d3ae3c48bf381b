//! What a snapshot keeps besides pages, as it crosses the border: mappings, and the state of an
//! instance. Named objects on JavaScript's side, the types of `snapshot/metadata.rs` on the other.
//! Nothing here calls an operation on snapshots.

use super::{from_count, internal};
use crate::error::{Error, Result};
use crate::snapshot::metadata::{
    SavedFunction, SavedGlobal, SavedMapping, SavedRun, SavedTable, State, Value, Whose,
};
use crate::sys::{alloc, to_usize};
use crate::wire::{List, Text};
use napi::bindgen_prelude::{Array, Uint32Array};
use napi_derive::napi;

/// What a mapping or window shows when a snapshot is taken.
#[napi(object)]
pub struct NativeShown {
    pub address: f64,
    /// Absent for an empty window.
    pub region: Option<u32>,
    pub byte_offset: f64,
    pub byte_length: f64,
    pub strict: bool,
}

/// A mapping or window that a snapshot keeps.
#[napi(object)]
pub struct NativeKept {
    pub address: f64,
    /// Bytes of its place, in whole pages.
    pub place_bytes: f64,
    pub access: u32,
    /// Absent for a mapping.
    pub window_access: Option<u32>,
    pub tail_traps: bool,
    /// Absent for an empty window.
    pub region_name: Option<String>,
    pub byte_offset: f64,
    pub byte_length: f64,
    pub strict: bool,
}

/// A function of a module, as states have it.
#[napi(object)]
pub struct NativeFunction {
    pub index: u32,
    pub export_name: Option<String>,
    pub whose: String,
}

/// A value of a global or table. `kind` says which of the others is there.
#[napi(object)]
pub struct NativeValue {
    pub kind: String,
    pub boolean: Option<bool>,
    pub number: Option<f64>,
    pub text: Option<String>,
    pub function: Option<NativeFunction>,
}

#[napi(object)]
pub struct NativeGlobal {
    pub name: String,
    /// Which of the values.
    pub value: u32,
}

/// Of each entry: 0 for null, else one more than which of the values.
#[napi(object)]
pub struct NativeTable {
    pub name: String,
    pub entries: Uint32Array,
}

/// A state that was loaded.
#[napi(object)]
pub struct NativeState {
    pub values: Vec<NativeValue>,
    pub globals: Vec<NativeGlobal>,
    pub tables: Vec<NativeTable>,
}

/// The state in a form for files, or why no file can hold it. `None` for none.
pub(super) type StateOrWhy = Option<std::result::Result<State, &'static str>>;

pub(super) fn state_from(
    values: &Array<'_>,
    globals: &Array<'_>,
    tables: &Array<'_>,
) -> napi::Result<StateOrWhy> {
    const TOO_MUCH: &str =
        "a global or table has a name or value that is too long for a file, or there are too many";
    let refused = Error::from;
    let mut kept_values = alloc::with_room(values.len() as usize).map_err(refused)?;
    for index in 0..values.len() {
        match value_from(item(values, index)?) {
            Some(value) => kept_values.push(value),
            None => return Ok(Some(Err(TOO_MUCH))),
        }
    }
    let mut kept_globals = alloc::with_room(globals.len() as usize).map_err(refused)?;
    for index in 0..globals.len() {
        let NativeGlobal { name, value } = item(globals, index)?;
        match Text::new(name) {
            Some(name) => kept_globals.push(SavedGlobal { name, value }),
            None => return Ok(Some(Err(TOO_MUCH))),
        }
    }
    let mut kept_tables = alloc::with_room(tables.len() as usize).map_err(refused)?;
    for index in 0..tables.len() {
        let NativeTable { name, entries } = item(tables, index)?;
        let (name, runs) = (Text::new(name), List::new(runs_of(&entries).map_err(refused)?));
        let length = u32::try_from(entries.len()).ok();
        match (name, runs, length) {
            (Some(name), Some(runs), Some(length)) => {
                kept_tables.push(SavedTable { name, length, runs });
            }
            _ => return Ok(Some(Err(TOO_MUCH))),
        }
    }
    let lists = (List::new(kept_values), List::new(kept_globals), List::new(kept_tables));
    Ok(Some(match lists {
        (Some(values), Some(globals), Some(tables)) => Ok(State { values, globals, tables }),
        _ => Err(TOO_MUCH),
    }))
}

fn value_from(value: NativeValue) -> Option<Value> {
    Some(match value.kind.as_str() {
        "null" => Value::Null,
        "boolean" => Value::Boolean(value.boolean?),
        "number" => Value::Number(value.number?),
        "bigint" => Value::Bigint(Text::new(value.text?)?),
        "string" => Value::String(Text::new(value.text?)?),
        "function" => {
            let NativeFunction { index, export_name, whose } = value.function?;
            let export_name = match export_name {
                Some(name) => Some(Text::new(name)?),
                None => None,
            };
            let whose = match whose.as_str() {
                "own" => Whose::Own,
                "foreign" => Whose::Foreign,
                _ => Whose::Unknown,
            };
            Value::Function(SavedFunction { index, export_name, whose })
        }
        _ => Value::Undefined,
    })
}

fn value_to(value: Value) -> NativeValue {
    let of = |kind: &str| NativeValue {
        kind: kind.to_owned(),
        boolean: None,
        number: None,
        text: None,
        function: None,
    };
    match value {
        Value::Null => of("null"),
        Value::Undefined => of("undefined"),
        Value::Boolean(boolean) => NativeValue { boolean: Some(boolean), ..of("boolean") },
        Value::Number(number) => NativeValue { number: Some(number), ..of("number") },
        Value::Bigint(digits) => NativeValue { text: Some(digits.into_string()), ..of("bigint") },
        Value::String(text) => NativeValue { text: Some(text.into_string()), ..of("string") },
        Value::Function(SavedFunction { index, export_name, whose }) => {
            let whose = match whose {
                Whose::Own => "own",
                Whose::Foreign => "foreign",
                Whose::Unknown => "unknown",
            };
            let export_name = export_name.map(Text::into_string);
            let function = NativeFunction { index, export_name, whose: whose.to_owned() };
            NativeValue { function: Some(function), ..of("function") }
        }
    }
}

/// What of a table's entries is not null.
fn runs_of(entries: &[u32]) -> Result<Vec<SavedRun>, alloc::Refused> {
    let mut runs = Vec::new();
    let mut at = 0_usize;
    for run in entries.chunk_by(|first, second| (*first == 0) == (*second == 0)) {
        if run.first().is_some_and(|first| *first > 0) {
            let values =
                run.iter().map(|entry| entry.checked_sub(1).expect("none of this run is 0"));
            let values = alloc::collected(values)?;
            let start = u32::try_from(at).map_err(|_| alloc::Refused)?;
            alloc::push(
                &mut runs,
                SavedRun { at: start, values: List::new(values).unwrap_or_default() },
            )?;
        }
        at = at.checked_add(run.len()).expect("runs are parts of the entries");
    }
    Ok(runs)
}

pub(super) fn state_to(state: State) -> Result<NativeState> {
    let globals = state.globals.into_vec().into_iter();
    let globals =
        globals.map(|SavedGlobal { name, value }| NativeGlobal { name: name.into_string(), value });
    let mut tables = alloc::with_room(state.tables.len())?;
    for SavedTable { name, length, runs } in state.tables.into_vec() {
        let mut entries: Vec<u32> = alloc::with_room(to_usize(length.into()))?;
        for SavedRun { at, values } in runs.into_vec() {
            // In order and inside, as the state was checked.
            entries.resize(to_usize(at.into()).min(entries.capacity()), 0);
            let shifted =
                |value: &u32| value.checked_add(1).expect("an index into a list of values");
            entries.extend(values.iter().map(shifted));
        }
        entries.resize(to_usize(length.into()), 0);
        tables.push(NativeTable { name: name.into_string(), entries: entries.into() });
    }
    let values = alloc::collected(state.values.into_vec().into_iter().map(value_to))?;
    Ok(NativeState { values, globals: alloc::collected(globals)?, tables })
}

/// An element of an array, taken one by one: a list of all could be too large to be had.
pub(super) fn item<T: napi::bindgen_prelude::FromNapiValue>(
    array: &Array<'_>,
    index: u32,
) -> napi::Result<T> {
    array.get(index)?.ok_or_else(|| internal("an array has a hole").into())
}

pub(super) fn kept_to(saved: SavedMapping) -> NativeKept {
    let (name, byte_offset, byte_length) = match saved.shown {
        Some(part) => (Some(part.region_name.into_string()), part.byte_offset, part.byte_length),
        None => (None, 0, 0),
    };
    NativeKept {
        address: from_count(saved.address),
        place_bytes: from_count(saved.byte_length),
        access: saved.access.code().into(),
        window_access: saved.window.map(|window| window.access.code().into()),
        tail_traps: saved.window.is_some_and(|window| window.tail_traps),
        region_name: name,
        byte_offset: from_count(byte_offset),
        byte_length: from_count(byte_length),
        strict: saved.strict,
    }
}
