//! How messages become bytes on a stream: as prost does it, in buffers of the size that sessions need.

use prost::Message;
use std::fmt;
use std::marker::PhantomData;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// A buffer begins with so many bytes and grows with what passes through it. A session has two of
/// them as long as it lives and its usual messages take 20 to 200 bytes; tonic's own 8 KiB each were
/// a third of what a connected host costs a server.
const BUFFER_BYTES: usize = 512;
/// Messages that wait together are sent together up to so many bytes: tonic's own value.
const YIELD_BYTES: usize = 32 * 1024;

/// prost with small buffers.
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> fmt::Debug for Codec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
