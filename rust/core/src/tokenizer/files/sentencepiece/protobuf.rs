//! As much of protocol buffers as a model needs: fields one after the other, each within what is left of the message.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'m> {
    /// An integer, a truth value or a name by its number.
    Number(u64),
    /// Four bytes.
    Four([u8; 4]),
    /// Eight bytes.
    Eight,
    /// A string or a message.
    Bytes(&'m [u8]),
}

impl<'m> Value<'m> {
    /// A truth value.
    pub fn truth(self) -> Option<bool> {
        self.number().map(|number| number != 0)
    }

    /// An integer.
    pub fn number(self) -> Option<u64> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    /// A number with a fraction.
    pub fn float(self) -> Option<f32> {
        if let Value::Four(bytes) = self { Some(f32::from_le_bytes(bytes)) } else { None }
    }

    /// A string or a message.
    pub fn bytes(self) -> Option<&'m [u8]> {
        if let Value::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// The fields of a message: their numbers and values. What cannot be read ends them with an error.
pub struct Fields<'m> {
    rest: &'m [u8],
}

impl<'m> Fields<'m> {
    /// Those of `message`.
    pub fn new(message: &'m [u8]) -> Self {
        Fields { rest: message }
    }

    fn field(&mut self) -> Option<(u64, Value<'m>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u64, Value<'m>), usize>;

    /// The error is how many bytes were left.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let left = self.rest.len();
        let field = self.field().ok_or(left);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_kind() {
        let message = b"\x0a\x02hi\x15\x00\x00\x80\x3f\x18\x96\x01\x21\0\0\0\0\0\0\0\0";
        let fields: Vec<_> = Fields::new(message).map(|field| field.unwrap()).collect();
        let expected = [
            (1, Value::Bytes(b"hi")),
            (2, Value::Four([0, 0, 0x80, 0x3f])),
            (3, Value::Number(150)),
            (4, Value::Eight),
        ];
        assert_eq!(fields, expected);
        assert_eq!(fields[1].1.float(), Some(1.0));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_an_error() {
        let huge = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for message in [&b"\x0a"[..], b"\x0a\x05hi", b"\x15\0\0", b"\x80", b"\x00\x00", b"\x0b", huge, &[0xff; 12]] {
            assert!(Fields::new(message).any(|field| field.is_err()), "{message:?}");
        }
    }
}
