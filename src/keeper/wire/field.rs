//! How values become bytes and bytes values: little-endian numbers, a count in front of lists and strings,
//! a byte in front of what may be absent. One description of a type serves both ways ([`record`], [`choice`]).
//!
//! Reading borrows, takes no more than is there, believes no count and never panics.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString};

/// What was read is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("malformed packet")]
    Packet,
    /// Of a newer version: to be passed over.
    #[error("packet of an unknown kind")]
    Unknown,
}

pub type Read<T> = Result<T, Malformed>;

/// What messages and states are made of.
pub trait Field<'a>: Sized {
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut &'a [u8]) -> Read<Self>;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// What stands behind is of a newer version, which adds at the end.
    fn decode(mut bytes: &'a [u8]) -> Read<Self> {
        Self::read(&mut bytes)
    }
}

/// A field at the end of a message that its older versions lack: there it is what it is by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added<T>(pub T);

impl<'a, T: Field<'a> + Default> Field<'a> for Added<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    fn read(from: &mut &'a [u8]) -> Read<Self> {
        if from.is_empty() { Ok(Added::default()) } else { T::read(from).map(Added) }
    }
}

/// A struct whose fields are written one after another.
macro_rules! record {
    ($(#[$about:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$told:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$about])* pub struct $name $(<$life>)? { $($(#[$told])* pub $field: $type,)* }
        impl<'a> Field<'a> for $name $(<$life>)? {
            fn write(&self, to: &mut Vec<u8>) { $(self.$field.write(to);)* }
            fn read(from: &mut &'a [u8]) -> Read<Self> { Ok($name { $($field: Field::read(from)?,)* }) }
        }
    };
}
pub(in crate::keeper) use record;

/// An enum: a byte that says which, then its fields.
macro_rules! choice {
    ($(#[$about:meta])* pub enum $name:ident $(<$life:lifetime>)? {
        $($(#[$told:meta])* $tag:literal $case:ident $({ $($field:ident: $type:ty),* })?,)*
    }) => {
        $(#[$about])* pub enum $name $(<$life>)? { $($(#[$told])* $case $({ $($field: $type),* })?,)* }
        impl<'a> Field<'a> for $name $(<$life>)? {
            fn write(&self, to: &mut Vec<u8>) {
                match self { $(Self::$case $({ $($field),* })? => { to.push($tag); $($($field.write(to);)*)? })* }
            }
            fn read(from: &mut &'a [u8]) -> Read<Self> {
                Ok(match u8::read(from)? {
                    $($tag => Self::$case $({ $($field: Field::read(from)?),* })?,)*
                    _ => return Err(Malformed::Unknown),
                })
            }
        }
    };
}
pub(in crate::keeper) use choice;

fn take<'a>(from: &mut &'a [u8], length: usize) -> Read<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length).ok_or(Malformed::Packet)?;
    *from = rest;
    Ok(taken)
}

fn write_count(count: usize, to: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).write(to);
}

fn write_all<'a, 'b, T: Field<'a> + 'b>(values: impl ExactSizeIterator<Item = &'b T>, to: &mut Vec<u8>) {
    write_count(values.len(), to);
    values.for_each(|value| value.write(to));
}

/// Grows with what is there, never by what the count says.
fn read_all<'a, T: Field<'a>, All: FromIterator<T>>(from: &mut &'a [u8]) -> Read<All> {
    (0..u32::read(from)?).map(|_| T::read(from)).collect()
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl<'a> Field<'a> for $number {
            fn write(&self, to: &mut Vec<u8>) { to.extend_from_slice(&self.to_le_bytes()); }
            fn read(from: &mut &'a [u8]) -> Read<Self> {
                let bytes = take(from, size_of::<$number>())?;
                bytes.try_into().map(<$number>::from_le_bytes).map_err(|_| Malformed::Packet)
            }
        }
    )*};
}
numbers!(u8 u32 u64 i32);

/// Types that are written as another one: how to get that one, and how to come back.
macro_rules! written_as {
    ($($type:ty as $other:ty: $it:ident => $there:expr, $back:expr;)*) => {$(
        impl<'a> Field<'a> for $type {
            fn write(&self, to: &mut Vec<u8>) { let $it = self; $there.write(to); }
            fn read(from: &mut &'a [u8]) -> Read<Self> { <$other>::read(from).and_then($back) }
        }
    )*};
}
pub(in crate::keeper) use written_as;

written_as! {
    bool as u8: it => u8::from(*it), |byte| if byte < 2 { Ok(byte == 1) } else { Err(Malformed::Packet) };
    Box<[u8]> as &[u8]: it => &**it, |bytes| Ok(bytes.into());
    &'a CStr as &[u8]: it => it.to_bytes_with_nul(),
        |bytes| CStr::from_bytes_with_nul(bytes).map_err(|_| Malformed::Packet);
    CString as &CStr: it => it.as_c_str(), |text| Ok(text.into());
}

impl<'a> Field<'a> for &'a [u8] {
    fn write(&self, to: &mut Vec<u8>) {
        write_count(self.len(), to);
        to.extend_from_slice(self);
    }

    fn read(from: &mut &'a [u8]) -> Read<Self> {
        let length = u32::read(from)?;
        take(from, usize::try_from(length).unwrap_or(usize::MAX))
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut &'a [u8]) -> Read<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Ok(None) }
    }
}

macro_rules! containers {
    ($(($($type:ident)*) $all:ty: $values:ident => $write:expr, $read:expr;)*) => {$(
        impl<'a, $($type: Field<'a>),*> Field<'a> for $all {
            fn write(&self, to: &mut Vec<u8>) { let $values = self; $write(to); }
            fn read(from: &mut &'a [u8]) -> Read<Self> { $read(from) }
        }
    )*};
}
containers! {
    (T) Box<T>: it => |to: &mut _| (**it).write(to), |from: &mut _| T::read(from).map(Box::new);
    (T) Vec<T>: all => |to: &mut _| write_all(all.iter(), to), read_all;
    (T) VecDeque<T>: all => |to: &mut _| write_all(all.iter(), to), read_all;
    (A B) (A, B): it => |to: &mut _| { it.0.write(to); it.1.write(to) },
        |from: &mut _| Ok((A::read(from)?, B::read(from)?));
    (A B C) (A, B, C): it => |to: &mut _| { it.0.write(to); it.1.write(to); it.2.write(to) },
        |from: &mut _| Ok((A::read(from)?, B::read(from)?, C::read(from)?));
}

impl<'a, K: Field<'a> + Ord, V: Field<'a>> Field<'a> for BTreeMap<K, V> {
    fn write(&self, to: &mut Vec<u8>) {
        write_count(self.len(), to);
        for (key, value) in self {
            key.write(to);
            value.write(to);
        }
    }

    fn read(from: &mut &'a [u8]) -> Read<Self> {
        read_all::<(K, V), _>(from)
    }
}
