//! Metadata: thirteen types of values, an array being of one of the other twelve.

use super::cursor::{Cursor, Fault};
use std::io::{self, Write};

/// The type numbers of strings and arrays; scalars have theirs in the table below.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A number that a file holds as its bytes.
trait Scalar: Sized {
    const BYTES: usize;
    /// None where the bytes are no such value.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    fn put(&self, out: &mut impl Write) -> io::Result<()>;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Scalar for $type {
            const BYTES: usize = size_of::<$type>();
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$type>::from_le_bytes)
            }
            fn put(&self, out: &mut impl Write) -> io::Result<()> {
                out.write_all(&self.to_le_bytes())
            }
        }
    )*};
}

numbers!(u8 i8 u16 i16 u32 i32 f32 u64 i64 f64);

impl Scalar for bool {
    const BYTES: usize = 1;
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
    fn put(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&[u8::from(*self)])
    }
}

/// The types of values, from one table: variant, Rust type, number in files, name.
macro_rules! values {
    ($($variant:ident $type:ident $number:literal $name:literal,)*) => {
        /// A value of metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("A ", $name, ".")] $variant($type),)*
            /// A text.
            String(String),
            /// Many of one type.
            Array(Array),
        }

        /// An array of metadata, of any type but arrays.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("Of ", $name, ".")] $variant(Vec<$type>),)*
            /// Of texts.
            String(Vec<String>),
        }

        impl Value {
            /// A value of the type with this number.
            pub(super) fn read(number: u32, from: &mut Cursor<'_>) -> Result<Self, Fault> {
                match number {
                    $($number => scalar(from, $name).map(Value::$variant),)*
                    STRING => from.string("a text").map(Value::String),
                    ARRAY => Array::read(from).map(Value::Array),
                    other => Err(from.fault(format!("{other} is no type of a value"))),
                }
            }

            /// The number of its type.
            pub(super) fn number(&self) -> u32 {
                match self {
                    $(Value::$variant(_) => $number,)*
                    Value::String(_) => STRING,
                    Value::Array(_) => ARRAY,
                }
            }

            /// Writes the value without its type.
            pub(super) fn put(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(Value::$variant(value) => value.put(out),)*
                    Value::String(text) => put_string(text, out),
                    Value::Array(array) => array.put(out),
                }
            }

            /// The type, for messages.
            pub fn describe(&self) -> String {
                match self {
                    $(Value::$variant(value) => format!("the {} {value}", $name),)*
                    Value::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
                    Value::Array(array) => format!("an array of {}", array.type_name()),
                }
            }
        }

        impl Array {
            /// Its elements' type, then how many, then the elements.
            fn read(from: &mut Cursor<'_>) -> Result<Self, Fault> {
                let number = from.u32("the type of an array")?;
                let len = from.u64("the length of an array")?;
                match number {
                    $($number => {
                        let bytes = from.bytes_of(len, $type::BYTES, "an array")?;
                        let scalars: Option<_> = bytes.chunks_exact($type::BYTES).map($type::from_bytes).collect();
                        scalars.map(Array::$variant).ok_or_else(|| from.fault(not_a($name)))
                    })*
                    STRING => {
                        let len = from.count(len, 8, "texts in an array")?;
                        (0..len).map(|_| from.string("a text of an array")).collect::<Result<_, _>>().map(Array::String)
                    }
                    ARRAY => Err(from.fault("an array of arrays is nothing that is read".to_string())),
                    other => Err(from.fault(format!("{other} is no type of an array's elements"))),
                }
            }

            fn put(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(Array::$variant(values) => {
                        head($number, values.len(), out)?;
                        values.iter().try_for_each(|value| value.put(out))
                    })*
                    Array::String(texts) => {
                        head(STRING, texts.len(), out)?;
                        texts.iter().try_for_each(|text| put_string(text, out))
                    }
                }
            }

            /// The type of its elements.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Array::$variant(_) => $name,)*
                    Array::String(_) => "text",
                }
            }
        }
    };
}

values! {
    U8 u8 0 "u8",
    I8 i8 1 "i8",
    U16 u16 2 "u16",
    I16 i16 3 "i16",
    U32 u32 4 "u32",
    I32 i32 5 "i32",
    F32 f32 6 "f32",
    Bool bool 7 "bool",
    U64 u64 10 "u64",
    I64 i64 11 "i64",
    F64 f64 12 "f64",
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_string())
    }
}

fn scalar<T: Scalar>(from: &mut Cursor<'_>, name: &str) -> Result<T, Fault> {
    let bytes = from.take(T::BYTES as u64, "a value")?;
    T::from_bytes(bytes).ok_or_else(|| from.fault(not_a(name)))
}

/// Only of truth values there are bytes that are none.
fn not_a(name: &str) -> String {
    format!("a {name} is neither 0 nor 1")
}

/// What comes before the elements of an array.
fn head(number: u32, len: usize, out: &mut impl Write) -> io::Result<()> {
    number.put(out)?;
    (len as u64).put(out)
}

/// A text behind its length in bytes.
pub(super) fn put_string(text: &str, out: &mut impl Write) -> io::Result<()> {
    (text.len() as u64).put(out)?;
    out.write_all(text.as_bytes())
}
