//! What a module's code can do to tables and segments after its start function.

use super::buffers::{push, reserve, sum};
use super::limits::MOST_GROWN;
use super::report::Segment;
use crate::error::Result;
use wasmparser::{FunctionBody, Operator};

/// One thing that a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    ChangesTable(u32),
    /// Learns how many entries a table has.
    Sizes(u32),
    Drops(Segment),
    Uses(Segment),
}

#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Functions that are exported or referred to, so that any code may call them.
    escaping: Vec<u32>,
    /// Caller and callee, in order of the caller.
    calls: Vec<(u32, u32)>,
    /// What each function does itself, without the functions that it calls.
    direct: Vec<(u32, Effect)>,
    /// Memories that code grows, in order; at most one more than [`MOST_GROWN`].
    pub(super) grown: Vec<u32>,
}

impl Effects {
    /// Notes that any code may call this function.
    pub(super) fn escapes(&mut self, function: u32) -> Result<()> {
        push(&mut self.escaping, function)
    }

    /// Notes what a function's code does. Pass functions in order. False if the code can't be read.
    pub(super) fn read_code(&mut self, function: u32, body: &FunctionBody<'_>) -> Result<bool> {
        let Ok(mut operators) = body.get_operators_reader() else { return Ok(false) };
        let first_call = self.calls.len();
        let mut is_read = true;
        while is_read && !operators.eof() {
            match operators.read() {
                Ok(operator) => self.note(function, &operator)?,
                Err(_) => is_read = false,
            }
        }
        // A call takes two bytes in code and eight here. Most calls of a function repeat.
        if let Some(calls) = self.calls.get_mut(first_call..) {
            calls.sort_unstable();
        }
        let mut kept = first_call;
        let mut last = None;
        for at in first_call..self.calls.len() {
            let call = self.calls.get(at).copied();
            if call != last {
                self.calls.swap(kept, at);
                kept = sum([kept, 1]);
                last = call;
            }
        }
        self.calls.truncate(kept);
        Ok(is_read)
    }

    fn note(&mut self, function: u32, operator: &Operator<'_>) -> Result<()> {
        let effect = match *operator {
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                return push(&mut self.calls, (function, function_index));
            }
            Operator::RefFunc { function_index } => return self.escapes(function_index),
            Operator::MemoryGrow { mem } => return self.grows(mem),
            Operator::TableGrow { table } => {
                push(&mut self.direct, (function, Effect::Sizes(table)))?;
                Effect::ChangesTable(table)
            }
            Operator::TableSize { table } => Effect::Sizes(table),
            Operator::TableSet { table }
            | Operator::TableFill { table }
            | Operator::TableCopy { dst_table: table, .. }
            | Operator::TableAtomicSet { table_index: table, .. }
            | Operator::TableAtomicRmwXchg { table_index: table, .. }
            | Operator::TableAtomicRmwCmpxchg { table_index: table, .. } => {
                Effect::ChangesTable(table)
            }
            Operator::TableInit { elem_index, table } => {
                push(&mut self.direct, (function, Effect::Uses(Segment::Element(elem_index))))?;
                Effect::ChangesTable(table)
            }
            Operator::ElemDrop { elem_index } => Effect::Drops(Segment::Element(elem_index)),
            Operator::DataDrop { data_index } => Effect::Drops(Segment::Data(data_index)),
            Operator::MemoryInit { data_index: index, .. }
            | Operator::ArrayNewData { array_data_index: index, .. }
            | Operator::ArrayInitData { array_data_index: index, .. } => {
                Effect::Uses(Segment::Data(index))
            }
            Operator::ArrayNewElem { array_elem_index: index, .. }
            | Operator::ArrayInitElem { array_elem_index: index, .. } => {
                Effect::Uses(Segment::Element(index))
            }
            _ => return Ok(()),
        };
        push(&mut self.direct, (function, effect))
    }

    fn grows(&mut self, memory: u32) -> Result<()> {
        let Err(place) = self.grown.binary_search(&memory) else { return Ok(()) };
        if self.grown.len() <= MOST_GROWN {
            reserve(&mut self.grown, 1)?;
            self.grown.insert(place, memory);
        }
        Ok(())
    }

    /// What functions do that may be called after the start function, in order. What only the start
    /// function does is the same in all instances.
    pub(super) fn after_start(&self, function_count: u32) -> Result<Vec<Effect>> {
        let mut reached = Vec::new();
        let function_count = function_count as usize;
        reserve(&mut reached, function_count)?;
        reached.resize(function_count, false);
        let mut next = Vec::new();
        // Each function goes into `next` once.
        let mut reach =
            |next: &mut Vec<u32>, function: u32| match reached.get_mut(function as usize) {
                Some(is_reached) if !*is_reached => {
                    *is_reached = true;
                    push(next, function)
                }
                _ => Ok(()),
            };
        for &function in &self.escaping {
            reach(&mut next, function)?;
        }
        while let Some(function) = next.pop() {
            let first = self.calls.partition_point(|call| call.0 < function);
            let calls = self.calls.get(first..).unwrap_or_default();
            for &(_, callee) in calls.iter().take_while(|call| call.0 == function) {
                reach(&mut next, callee)?;
            }
        }
        let mut found = Vec::new();
        for &(function, effect) in &self.direct {
            if reached.get(function as usize) == Some(&true) {
                push(&mut found, effect)?;
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
