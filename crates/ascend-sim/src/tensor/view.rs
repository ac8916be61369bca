//! The description of a tensor: shape, strides, element type, format and address.

use super::dtype::DType;
use super::refuse::invalid;
use crate::task::Error;

/// Number of the plain format in `aclFormat`.
pub const ND: i32 = 2;
/// Number of the tiled matrix format in `aclFormat`.
pub const FRACTAL_NZ: i32 = 29;

/// A tensor as the caller describes it. Strides and offset count elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Address of the storage.
    pub addr: usize,
    /// Element type.
    pub dtype: DType,
    /// View shape, outermost first.
    pub dims: Vec<usize>,
    /// Strides of the view, in elements.
    pub strides: Vec<usize>,
    /// First element of the view, in elements from the address.
    pub offset: usize,
    /// `aclFormat`.
    pub format: i32,
    /// Storage shape as given.
    pub storage: Vec<usize>,
}

/// Strides of a dense tensor.
pub fn dense(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i].max(1));
    }
    strides
}

impl View {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.dims.iter().product()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Size of the last dimension; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Bytes of the elements, without gaps.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes(self.numel()) as u64
    }

    /// Whether the elements lie one after the other in order.
    pub fn is_dense(&self) -> bool {
        let dense = dense(&self.dims);
        self.dims.iter().zip(self.strides.iter().zip(&dense)).all(|(&n, (&got, &want))| n <= 1 || got == want)
    }

    /// First element and one past the last element that the view can touch.
    pub fn span(&self) -> (usize, usize) {
        if self.numel() == 0 {
            return (0, 0);
        }
        if self.format == FRACTAL_NZ {
            return (0, self.nz_elems());
        }
        let reach: usize = self.dims.iter().zip(&self.strides).map(|(&n, &s)| (n - 1) * s).sum();
        (self.offset, self.offset + reach + 1)
    }

    /// Rows and columns of the matrix as an NZ storage holds it: a transposed view swaps them back.
    pub fn nz_matrix(&self) -> (usize, usize, bool) {
        let rank = self.rank();
        let (rows, cols) = (self.dims[rank - 2], self.dims[rank - 1]);
        let transposed = self.strides[rank - 1] != 1 && cols > 1 && (self.strides[rank - 2] == 1 || rows == 1);
        if transposed { (cols, rows, true) } else { (rows, cols, false) }
    }

    /// Elements of the NZ storage, padding included.
    fn nz_elems(&self) -> usize {
        let (rows, cols, _) = self.nz_matrix();
        let batch: usize = self.dims[..self.rank() - 2].iter().product();
        batch * nz_size(rows, cols, self.dtype)
    }

    /// The view broadcast to `dims`, with stride 0 where a dimension repeats.
    pub fn broadcast(&self, dims: &[usize]) -> Result<View, Error> {
        let lead = dims.len().checked_sub(self.rank()).ok_or_else(|| self.no_broadcast(dims))?;
        let mut strides = vec![0; dims.len()];
        for (i, &have) in self.dims.iter().enumerate() {
            strides[lead + i] = match have {
                n if n == dims[lead + i] => self.strides[i],
                1 => 0,
                _ => return Err(self.no_broadcast(dims)),
            };
        }
        Ok(View { dims: dims.to_vec(), strides, ..self.clone() })
    }

    fn no_broadcast(&self, dims: &[usize]) -> Error {
        invalid(format!("shape {:?} cannot be broadcast to {dims:?}", self.dims))
    }

    /// The view without its first `index.len()` dimensions, at `index`.
    pub fn at(&self, index: &[usize]) -> View {
        let offset = self.offset + index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<usize>();
        let n = index.len();
        View { offset, dims: self.dims[n..].to_vec(), strides: self.strides[n..].to_vec(), ..self.clone() }
    }
}

/// Elements in a row of an NZ tile: 32 bytes.
pub fn nz_c0(dtype: DType) -> usize {
    256 / dtype.bits()
}

/// Elements of a matrix in NZ, padded to whole tiles of 16 rows.
pub fn nz_size(rows: usize, cols: usize, dtype: DType) -> usize {
    let c0 = nz_c0(dtype);
    rows.div_ceil(16) * 16 * cols.div_ceil(c0) * c0
}

/// Element index of (`row`, `col`) in the NZ storage of a matrix with `rows` rows.
#[inline(always)]
pub fn nz_index(row: usize, col: usize, rows: usize, c0: usize) -> usize {
    ((col / c0) * rows.div_ceil(16) + row / 16) * 16 * c0 + (row % 16) * c0 + col % c0
}

/// The shape to which both shapes broadcast.
pub fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Error> {
    let rank = a.len().max(b.len());
    let get = |dims: &[usize], i: usize| if i + dims.len() < rank { 1 } else { dims[i + dims.len() - rank] };
    let mut out = Vec::with_capacity(rank);
    for i in 0..rank {
        out.push(match (get(a, i), get(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(invalid(format!("shapes {a:?} and {b:?} cannot be broadcast together"))),
        });
    }
    Ok(out)
}
