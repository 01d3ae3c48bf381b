//! The types of a module: which values JavaScript can read, and which may refer to more state.

use super::buffers::{push, room_for};
use super::limits;
use crate::error::Result;
use wasmparser::{
    AbstractHeapType, CompositeInnerType, HeapType, TypeSectionReader, UnpackedIndex, ValType,
};

/// What a type index refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypeKind {
    Function,
    Continuation,
    Object,
}

#[derive(Debug, Default)]
pub(super) struct Types {
    kinds: Vec<TypeKind>,
    /// Some types are of a proposal that wasmparser doesn't know.
    is_unread: bool,
    /// Some types have mutable fields, or could not be read.
    pub(super) mutable_objects: bool,
}

impl Types {
    /// Adds the types of a section.
    pub(super) fn read(&mut self, types: TypeSectionReader<'_>) -> Result<()> {
        limits::at_most("groups of types", types.count(), limits::TYPES)?;
        // wasmparser keeps one group at a time, in up to 30 bytes for each byte of it.
        let range = types.range();
        let byte_length = range.end.checked_sub(range.start).expect("a range ends after its start");
        let byte_length = usize::try_from(byte_length).expect("the section is in memory");
        room_for(byte_length, 32)?;
        for group in types {
            let Ok(group) = group else {
                self.is_unread = true;
                self.mutable_objects = true;
                return Ok(());
            };
            for ty in group.types() {
                let kind = match &ty.composite_type.inner {
                    CompositeInnerType::Func(_) => TypeKind::Function,
                    CompositeInnerType::Cont(_) => TypeKind::Continuation,
                    CompositeInnerType::Array(array) => {
                        self.mutable_objects |= array.0.mutable;
                        TypeKind::Object
                    }
                    CompositeInnerType::Struct(object) => {
                        self.mutable_objects |= object.fields.iter().any(|field| field.mutable);
                        TypeKind::Object
                    }
                };
                push(&mut self.kinds, kind)?;
            }
        }
        Ok(())
    }

    /// How many types there are; `None` if some can't be read.
    pub(super) fn count(&self) -> Option<u32> {
        if self.is_unread { None } else { u32::try_from(self.kinds.len()).ok() }
    }

    fn kind_of(&self, index: UnpackedIndex) -> Option<TypeKind> {
        let UnpackedIndex::Module(index) = index else { return None };
        self.kinds.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether JavaScript can read values of a type. It can't read vectors, exceptions and
    /// continuations.
    pub(super) fn is_readable(&self, ty: ValType) -> bool {
        match ty {
            ValType::V128 => false,
            ValType::Ref(ty) => match ty.heap_type() {
                HeapType::Abstract { ty, .. } => !matches!(
                    ty,
                    AbstractHeapType::Exn
                        | AbstractHeapType::NoExn
                        | AbstractHeapType::Cont
                        | AbstractHeapType::NoCont
                ),
                HeapType::Concrete(index) | HeapType::Exact(index) => {
                    self.kind_of(index) != Some(TypeKind::Continuation)
                }
            },
            _ => true,
        }
    }

    pub(super) fn may_hold_functions(&self, ty: ValType) -> bool {
        let ValType::Ref(ty) = ty else { return false };
        match ty.heap_type() {
            HeapType::Abstract { ty, .. } => matches!(ty, AbstractHeapType::Func),
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                matches!(self.kind_of(index), Some(TypeKind::Function) | None)
            }
        }
    }

    pub(super) fn may_hold_objects(&self, ty: ValType) -> bool {
        let ValType::Ref(ty) = ty else { return false };
        match ty.heap_type() {
            HeapType::Abstract { ty, .. } => matches!(
                ty,
                AbstractHeapType::Any
                    | AbstractHeapType::Eq
                    | AbstractHeapType::Struct
                    | AbstractHeapType::Array
                    | AbstractHeapType::Extern
            ),
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                matches!(self.kind_of(index), Some(TypeKind::Object) | None)
            }
        }
    }
}
