//! Go's `encoding/json` as its peers rely on it.
//!
//! Every program that we talk to encodes and decodes with Go's rules, which differ from serde's defaults: `null` is
//! legal everywhere and leaves the zero value, field names match in any case, the last of two equal keys wins, zero
//! values of text types are `""`, and the encoder escapes HTML. The [`wire!`](crate::wire) macro builds types that
//! follow these rules from the traits here; [`to_string`] and friends write as Go writes.
//!
//! Source: Go's `encoding/json` documentation and `types/opt`, `net/netip` text forms.

mod format;
mod leaf;
mod time;

pub use format::{to_string, to_string_indent, to_vec};
pub use leaf::{Bytes, OptAddr, RawJson, Secret, int_keys};
pub use time::GoTime;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A type that decodes by Go's rules.
pub trait Wire: Sized {
    /// Decodes a value that is not `null`. `None` means that the value is a spelling of "nothing", such as the empty
    /// text of an address.
    ///
    /// # Errors
    /// When the JSON has another type, or a text does not parse.
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error>;

    /// What a `null` element of a list or map becomes; `None` drops the element.
    fn from_null() -> Option<Self> {
        None
    }
}

/// A value that may be `null` or a spelling of "nothing".
#[derive(Debug)]
pub struct Maybe<T>(pub Option<T>);

impl<'de, T: Wire> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Wire> Visitor<'de> for V<T> {
            type Value = Maybe<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }
            fn visit_none<E>(self) -> Result<Maybe<T>, E> {
                Ok(Maybe(None))
            }
            fn visit_unit<E>(self) -> Result<Maybe<T>, E> {
                Ok(Maybe(None))
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Maybe<T>, D::Error> {
                T::de(d).map(Maybe)
            }
        }
        deserializer.deserialize_option(V(PhantomData))
    }
}

/// For `#[serde(default, deserialize_with = "tailcfg::go::nullable")]` on types that do not use [`wire!`](crate::wire).
///
/// # Errors
/// When the value does not decode.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether the encoder leaves a value out under `omitempty` or `omitzero`. For `Option<Vec<_>>` only `None` counts, so
/// that an empty list can still be said where that matters.
pub trait Zero {
    /// See [`Zero`].
    fn is_zero(&self) -> bool;
}

/// [`Zero::is_zero`] as a function, for `skip_serializing_if`.
pub fn is_zero<T: Zero>(value: &T) -> bool {
    value.is_zero()
}

impl<T: Wire> Wire for Option<T> {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        T::de(deserializer).map(Some)
    }
    fn from_null() -> Option<Self> {
        Some(None)
    }
}

impl<T> Zero for Option<T> {
    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

macro_rules! pointer {
    ($($pointer:ident),*) => {$(
        impl<T: Wire> Wire for $pointer<T> {
            fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                Ok(T::de(deserializer)?.map($pointer::new))
            }
        }
        impl<T: Zero> Zero for $pointer<T> {
            fn is_zero(&self) -> bool {
                T::is_zero(self)
            }
        }
    )*};
}
pointer!(Box, Arc);

impl<T: Wire> Wire for Vec<T> {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Wire> Visitor<'de> for V<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut out = Vec::new();
                while let Some(Maybe(item)) = seq.next_element::<Maybe<T>>()? {
                    out.extend(item.or_else(T::from_null));
                }
                out.shrink_to_fit();
                Ok(out)
            }
        }
        deserializer.deserialize_seq(V(PhantomData)).map(Some)
    }
}

impl<T> Zero for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<K, T> Wire for BTreeMap<K, T>
where
    K: Ord + for<'k> Deserialize<'k>,
    T: Wire,
{
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        struct V<K, T>(PhantomData<(K, T)>);
        impl<'de, K: Ord + Deserialize<'de>, T: Wire> Visitor<'de> for V<K, T> {
            type Value = BTreeMap<K, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = BTreeMap::new();
                while let Some((key, Maybe(value))) = map.next_entry::<K, Maybe<T>>()? {
                    if let Some(value) = value.or_else(T::from_null) {
                        out.insert(key, value);
                    }
                }
                Ok(out)
            }
        }
        deserializer.deserialize_map(V(PhantomData)).map(Some)
    }
}

impl<K, T> Zero for BTreeMap<K, T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// The position of `name` in `names`: the exact one first, then one that differs in case only. `guess` is looked at
/// first, because encoders write fields in the order of their declaration.
#[doc(hidden)]
#[must_use]
pub fn field_index(name: &str, names: &[&str], guess: usize) -> Option<usize> {
    if names.get(guess) == Some(&name) {
        return Some(guess);
    }
    names.iter().position(|known| *known == name).or_else(|| {
        names
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
    })
}

/// Defines structs whose JSON follows Go's rules.
///
/// A field is `"JSONName" = name: Type` when the encoder always writes it, and `"JSONName" ? name: Type` when it leaves
/// the zero value out. The structs get `Debug`, `Clone`, `PartialEq` and `Default`, `Serialize` in the order of
/// declaration, and a lenient `Deserialize`.
#[macro_export]
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fmeta:meta])* $key:literal $omit:tt $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default)]
        $vis struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        #[allow(dead_code, reason = "not every struct's fields are asked for")]
        impl $name {
            /// The names of the fields as on the wire, in order.
            $vis const FIELDS: &'static [&'static str] = &[$($key),*];
        }

        impl $crate::go::Wire for $name {
            fn de<'de, D: $crate::__serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<::core::option::Option<Self>, D::Error> {
                #[expect(non_camel_case_types, reason = "named after the fields")]
                #[derive(Clone, Copy)]
                enum Field { $($field),* }
                const FIELDS: &[Field] = &[$(Field::$field),*];
                struct V;
                impl<'de> $crate::__serde::de::Visitor<'de> for V {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                        f.write_str(concat!("a ", stringify!($name), " object"))
                    }
                    fn visit_map<A: $crate::__serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> ::core::result::Result<$name, A::Error> {
                        let mut out = <$name>::default();
                        let mut guess = 0;
                        while let Some(key) = map.next_key::<::std::borrow::Cow<'_, str>>()? {
                            let index = $crate::go::field_index(&key, <$name>::FIELDS, guess);
                            guess = index.unwrap_or(guess) + 1;
                            match index.and_then(|index| FIELDS.get(index)) {
                                $(Some(Field::$field) => {
                                    out.$field = map
                                        .next_value::<$crate::go::Maybe<$ty>>()?
                                        .0
                                        .unwrap_or_default();
                                })*
                                None => {
                                    map.next_value::<$crate::__serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(out)
                    }
                }
                deserializer.deserialize_map(V).map(Some)
            }
        }

        impl<'de> $crate::__serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::__serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let value = <$crate::go::Maybe<Self> as $crate::__serde::Deserialize>::deserialize(deserializer)?;
                Ok(value.0.unwrap_or_default())
            }
        }

        impl $crate::__serde::Serialize for $name {
            fn serialize<S: $crate::__serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                #[allow(unused_imports, unused_mut, reason = "a struct may have no field")]
                use $crate::__serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $( $crate::wire!(@entry map, self, $key $omit $field); )*
                map.end()
            }
        }

        impl $crate::go::Zero for $name {
            fn is_zero(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
    (@entry $map:ident, $self:ident, $key:literal = $field:ident) => {
        $map.serialize_entry($key, &$self.$field)?;
    };
    (@entry $map:ident, $self:ident, $key:literal ? $field:ident) => {
        if !$crate::go::Zero::is_zero(&$self.$field) {
            $map.serialize_entry($key, &$self.$field)?;
        }
    };
}

#[cfg(test)]
mod tests;
